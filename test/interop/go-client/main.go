// Command client enrolls with a join file, then renews at each SIGHUP; a JSON line for each certificate, and any failure
// ends it. It shares no code with Vouch and does nothing that docs/enrollment.md, docs/log-format.md and
// docs/openapi.json do not say: that it gets its certificates shows that those are right.
package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
)

// client is the join file, and what was seen and got since.
type client struct {
	Server, TrustDomain, Pin, Token string
	// Floor is what nothing may be older than: the join file's, then what was seen.
	Floor struct{ Statement, Bundle, TreeSize int64 }

	bindByNonce        bool
	root               *x509.Certificate
	key                *ecdsa.PrivateKey
	chain              [][]byte // leaf first, without the root
	spiffeID           string
	checkpoint, origin string // the signed note, and its first line
	rootHash           [32]byte
	crlNumbers         map[string]int64 // by key id
}

func main() {
	join := flag.String("join", "", "join file")
	byNonce := flag.Bool("nonce", false, "bind by a nonce instead of the exporter")
	flag.Parse()
	c := &client{crlNumbers: map[string]int64{}, bindByNonce: *byNonce}
	line := strings.TrimSpace(string(must(os.ReadFile(*join))))
	require(strings.HasPrefix(line, "vouch1."), "this is no join file")
	check(json.Unmarshal(must(base64.RawURLEncoding.DecodeString(line[7:])), c))
	c.root = c.learnRoot()
	renew := make(chan os.Signal, 1)
	signal.Notify(renew, syscall.SIGHUP)
	for ; ; <-renew {
		check(json.NewEncoder(os.Stdout).Encode(c.obtain()))
	}
}

// obtain asks for the first or the next certificate, for a fresh key, and keeps it when everything about it holds.
func (c *client) obtain() *proven {
	key := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	csr := must(x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key))
	r := request{path: "/v1/enroll", key: key, body: map[string]any{"csr": csr}}
	if c.chain == nil {
		r.evidence = []byte("join_token\x00" + c.Token)
		r.body["evidence"] = map[string]string{"type": "join_token", "data": c.Token}
	} else {
		r.path = "/v1/renew"
		r.evidence = append([]byte("renew\x00"), c.chain[0]...)
		r.certificates = []tls.Certificate{{Certificate: c.chain, PrivateKey: c.key}}
		r.body["treeSize"], r.body["checkpoint"] = c.Floor.TreeSize, c.checkpoint
	}
	got := c.ask(r)
	made := c.verify(got, key)
	c.chain, c.key = got.Chain[:len(got.Chain)-1], key
	return made
}

func must[T any](value T, err error) T {
	check(err)
	return value
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func require(holds bool, complaint string) {
	if !holds {
		check(fmt.Errorf("unbelievable %s", complaint))
	}
}
