#!/bin/sh
# A certificate for a container that has only sh, curl and openssl (3, or 1.1.1): enrolls with a join file, or renews what
# stands in DIR. Run it at boot and again at half of the certificate's life. See usage below, and docs/enrollment.md for
# what crosses the wire. What it does not check, and `vouch enroll` does: that the certificate stands in the log.
set -eu
umask 077

usage='usage: enroll.sh --join-file F --out DIR [--timeout SECONDS]

  --join-file F   as `vouch token create --out F` wrote it; mode 600
  --out DIR       DIR/current gets svid.pem, svid.key, bundle.pem and crl.pem; where it holds a certificate that is still
                  valid, that is renewed, with a fresh key
  --timeout N     how long to go on trying where the server is away (60)

Exit: 0 done, 1 refused, 2 usage, 75 try again later, 78 set something right first.'

main() {
  read_arguments "$@"
  for tool in curl openssl sed awk tr od; do
    command -v $tool >/dev/null 2>&1 || refuse 78 "needs $tool"
  done
  read_join_file
  mkdir -p "$out" || refuse 78 "$out cannot be made"
  work=$(mktemp -d "$out/.enroll-XXXXXX") || refuse 78 "$out cannot be written"
  trap 'rm -rf "$work"' EXIT
  trap 'exit 130' INT TERM HUP
  config >"$work/openssl.cnf"
  deadline=$(($(date +%s) + timeout))
  pause=1
  until attempt; do
    [ "$(date +%s)" -lt "$deadline" ] || refuse 75 "$why; gave up after $timeout s"
    say "$why; trying again in $pause s"
    sleep $pause
    [ $pause -ge 8 ] || pause=$((pause * 2))
  done
}

read_arguments() {
  join_file='' out='' timeout=60
  while [ $# -gt 0 ]; do
    case $1 in
      --help) echo "$usage" && exit 0 ;;
      --join-file | --out | --timeout) [ $# -gt 1 ] || refuse 2 "$1 takes a value" ;;
      *) refuse 2 "what is $1? enroll.sh --help" ;;
    esac
    case $1 in
      --join-file) join_file=$2 ;;
      --out) out=$2 ;;
      --timeout) timeout=$2 ;;
    esac
    shift 2
  done
  [ -n "$join_file" ] && [ -n "$out" ] || refuse 2 "$usage"
  case $timeout in '' | *[!0-9]* | ??????*) refuse 2 '--timeout takes seconds' ;; esac
}

say() {
  echo "enroll.sh: $1" >&2
}

refuse() {
  say "$2"
  exit "$1"
}

config() {
  printf '[req]\ndistinguished_name=none\nprompt=no\n[none]\n'
}

# Sets server, host, port, trust_domain, pin; the token goes into a variable and from there into files of ours only.
read_join_file() {
  [ -f "$join_file" ] || refuse 78 "the join file $join_file is not there; make one with \`vouch token create --out\`"
  case $(ls -ldn "$join_file") in
    -??-------*) ;;
    *) refuse 78 "$join_file can be read by others: treat its token as known, make a new join file, chmod 600" ;;
  esac
  text=$(sed -n 's/^vouch1\.\([A-Za-z0-9_-]*\)[[:space:]]*$/\1/p' "$join_file" | tr '_-' '/+')
  while [ $((${#text} % 4)) -ne 0 ]; do text=$text=; done
  join=$(printf '%s' "$text" | openssl base64 -d -A 2>/dev/null) || join=''
  server=$(member server "$join") trust_domain=$(member trustDomain "$join")
  pin=$(member pin "$join") token=$(member token "$join")
  host=$(printf '%s' "$server" | sed -n -e 's#^https://\([A-Za-z0-9._-]*\)\(:[0-9]*\)\{0,1\}$#\1#p' -e 's#^https://\(\[[0-9A-Fa-f:.]*\]\)\(:[0-9]*\)\{0,1\}$#\1#p')
  port=${server##*:}
  case $port in *[!0-9]*) port=443 ;; esac
  [ -n "$host" ] && [ -n "$trust_domain" ] && [ -n "$pin" ] && [ -n "$token" ] ||
    refuse 78 "$join_file is no join file; it may have been cut"
}

# member NAME JSON: the text of a member of our own compact JSON, whose values that are read here need no escapes.
member() {
  printf '%s' "$2" | sed -n 's/.*"'"$1"'":"\([^"\\]*\)".*/\1/p'
}

# One try. Status 1 with `why` where another may do.
attempt() {
  learn_server || return 1
  if is_valid "$out/current/svid.pem"; then
    certificate=$out/current/svid.pem
    openssl x509 -in "$certificate" -outform DER -out "$work/held.der"
    { printf 'renew\0' && cat "$work/held.der"; } >"$work/evidence"
    set -- /v1/renew --cert "$certificate" --key "$out/current/svid.key"
    body=''
  else
    printf 'join_token\0%s' "$token" >"$work/evidence"
    set -- /v1/enroll
    body='"evidence":{"type":"join_token","data":"'$token'"},'
  fi
  make_key
  printf '{}' >"$work/empty.json"
  ask /v1/challenge "$work/empty.json" || return 1
  nonce=$(member nonce "$(cat "$work/answer")")
  {
    printf 'vouch-enroll-v1'
    printf '%s' "$nonce" | openssl base64 -d -A
    openssl dgst -sha256 -binary "$work/evidence"
  } >"$work/bound"
  openssl dgst -sha256 -sign "$key" -out "$work/signature" "$work/bound"
  printf '{%s"csr":"%s","binding":{"signature":"%s","nonce":"%s"}}' "$body" "$(encoded "$work/csr")" \
    "$(encoded "$work/signature")" "$nonce" >"$work/request.json"
  path=$1
  shift
  ask "$path" "$work/request.json" "$@" || return 1
  deliver
}

# The first connection sends nothing: it takes root and server key from the handshake, and holds them against pin and name.
learn_server() {
  rm -f "$work"/shown-*
  openssl s_client -connect "$host:$port" -showcerts -tls1_3 -alpn http/1.1 </dev/null 2>/dev/null |
    awk -v to="$work/shown-" '
      /^-----BEGIN CERTIFICATE/ { n++; file = to n ".pem" }
      file != "" { print > file }
      /^-----END CERTIFICATE/ { close(file); file = ""; if (n == 8) exit }' ||
    true
  why="$server does not answer"
  [ -f "$work/shown-1.pem" ] || return 1
  root=''
  for shown in "$work"/shown-*.pem; do
    if [ "sha256:$(key_of "$shown" | openssl dgst -sha256 -r | cut -c1-64)" = "$pin" ] && is_own_issuer "$shown"; then root=$shown; fi
  done
  [ -n "$root" ] || refuse 1 "$server does not show the root that the pin names: it is another authority, or somebody in between. No secret was sent"
  cat "$work"/shown-*.pem >"$work/shown.pem"
  name=$(printf '%s' "$host" | tr -d '[]')
  case $name in *:*) kind=-verify_ip ;; *[!0-9.]*) kind=-verify_hostname ;; *) kind=-verify_ip ;; esac
  openssl verify -CAfile "$root" -untrusted "$work/shown.pem" -purpose sslserver -x509_strict $kind "$name" "$work/shown-1.pem" >"$work/said" 2>&1 ||
    refuse 1 "the certificate of $server does not hold: $(sed -n "/^error [0-9]/p" "$work/said" | head -n 1). No secret was sent"
  uris=$(openssl x509 -in "$work/shown-1.pem" -noout -ext subjectAltName 2>/dev/null | tr ',' '\n' | sed -n 's/^ *URI://p')
  [ "$uris" = "spiffe://$trust_domain/vouch/server" ] ||
    refuse 1 "$server is $uris, not spiffe://$trust_domain/vouch/server: a workload poses as the server. No secret was sent"
  server_key=$(key_of "$work/shown-1.pem" | openssl dgst -sha256 -binary | openssl base64 -A)
}

# DER of the public key of a certificate.
key_of() {
  openssl x509 -in "$1" -noout -pubkey | openssl pkey -pubin -outform DER
}

is_own_issuer() {
  openssl verify -CAfile "$1" -x509_strict "$1" >/dev/null 2>&1
}

is_valid() {
  [ -f "$1" ] && openssl x509 -in "$1" -noout -checkend 5 >/dev/null 2>&1
}

# The key stays where it is until its certificate is delivered: asked again with it, the server gives the same one.
make_key() {
  key=$out/.enroll.key
  purpose=$(openssl dgst -sha256 -r "$work/evidence" | cut -c1-64)
  if [ "$(cat "$key.for" 2>/dev/null)" != "$purpose" ] || ! openssl pkey -in "$key" -noout 2>/dev/null; then
    rm -f "$key.for"
    openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$key" 2>/dev/null
    printf '%s\n' "$purpose" >"$key.for"
  fi
  openssl req -new -config "$work/openssl.cnf" -key "$key" -subj / -outform DER -out "$work/csr"
}

encoded() {
  openssl base64 -A -in "$1"
}

# ask PATH BODY-FILE [CURL-OPTION…]: $work/answer of a 200; status 1 with `why` where another try may do, else ends.
ask() {
  url=$server$1 sent=$2
  shift 2
  status=$(curl --silent --noproxy '*' --proto =https --tlsv1.3 --http1.1 --max-time 15 --max-filesize 1048576 \
    --cacert "$root" --pinnedpubkey "sha256//$server_key" "$@" -H 'Content-Type: application/json' \
    --data-binary "@$sent" -o "$work/answer" -w '%{http_code}' "$url") || {
    why="$server does not answer"
    return 1
  }
  why=$(member detail "$(cat "$work/answer")" | tr -d '\000-\037\177')
  case $status in
    200) ;;
    408 | 429 | 5??) return 1 ;;
    *) refuse 1 "${why:-$server answers $status}" ;;
  esac
}

# Checks chain, key, name and CRLs, and only then swaps the files.
deliver() {
  fresh=$work/fresh
  mkdir "$fresh"
  sed -n 's/.*"chain":\[\([^]]*\)\].*/\1/p' "$work/answer" | tr -d '"' | tr ',' '\n' >"$work/chain"
  : >"$fresh/svid.pem" && : >"$work/issuers.pem"
  total=$(grep -c . "$work/chain") n=0
  while read -r line || [ -n "$line" ]; do
    n=$((n + 1))
    printf '%s' "$line" | openssl base64 -d -A | openssl x509 -inform DER -out "$work/one.pem" || refuse 1 'the answer has no certificate'
    if [ $n -lt "$total" ]; then cat "$work/one.pem" >>"$fresh/svid.pem"; fi
    if [ $n -gt 1 ]; then cat "$work/one.pem" >>"$work/issuers.pem"; fi
  done <"$work/chain"
  cp "$root" "$fresh/bundle.pem"
  cp "$key" "$fresh/svid.key"
  sed -n 's/.*"crlUrls":\[\([^]]*\)\].*/\1/p' "$work/answer" | tr '{' '\n' | sed -n 's/.*"url":"\(http:[^"]*\)".*/\1/p' >"$work/urls"
  : >"$fresh/crl.pem"
  while read -r url || [ -n "$url" ]; do
    curl --silent --noproxy '*' --proto =http --max-time 15 --fail -o "$work/crl" "$url" || { why="no CRL can be had from $url" && return 1; }
    openssl crl -inform DER -in "$work/crl" >>"$fresh/crl.pem" || refuse 1 "what $url serves is no CRL"
  done <"$work/urls"
  openssl verify -CAfile "$fresh/bundle.pem" -untrusted "$work/issuers.pem" -CRLfile "$fresh/crl.pem" -crl_check_all -x509_strict \
    "$fresh/svid.pem" >"$work/said" 2>&1 || refuse 1 "the certificate does not hold: $(sed -n "/^error [0-9]/p" "$work/said" | head -n 1)"
  [ "$(key_of "$fresh/svid.pem" | openssl dgst -sha256)" = "$(openssl pkey -in "$key" -pubout -outform DER | openssl dgst -sha256)" ] ||
    refuse 1 'the certificate is for another key than ours'
  uri=$(openssl x509 -in "$fresh/svid.pem" -noout -ext subjectAltName | tr ',' '\n' | sed -n 's/^ *URI://p')
  case $uri in
    "spiffe://$trust_domain/vouch/"*) refuse 1 "the certificate is for the reserved name $uri" ;;
    "spiffe://$trust_domain/"*) ;;
    *) refuse 1 "the certificate is for $uri, outside $trust_domain" ;;
  esac
  chmod 755 "$fresh" && chmod 644 "$fresh/svid.pem" "$fresh/bundle.pem" "$fresh/crl.pem"
  swap
  rm -f "$key" "$key.for"
  openssl x509 -in "$out/current/svid.pem" -noout -enddate | sed "s#^notAfter=#$uri in $out/current, valid until #"
}

swap() {
  last=$(ls "$out" | sed -n '/^[0-9]\{6\}$/p' | tail -n 1)
  next=$(printf '%06d' $(($(printf '%s' "${last:-0}" | sed 's/^0*\(.\)/\1/') + 1)))
  mv "$fresh" "$out/$next"
  ln -s "$next" "$work/current"
  mv -fT "$work/current" "$out/current" 2>/dev/null || ln -sfn "$next" "$out/current"
  for old in "$out"/[0-9][0-9][0-9][0-9][0-9][0-9]; do
    case ${old##*/} in "$next" | "$last") ;; *) rm -rf "$old" ;; esac
  done
}

main "$@"
