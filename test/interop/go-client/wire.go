package main

import (
	"bufio"
	"bytes"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
)

// request is ready but for its binding.
type request struct {
	path         string
	key          *ecdsa.PrivateKey
	evidence     []byte
	certificates []tls.Certificate
	body         map[string]any
}

// learnRoot is the first connection: it sends nothing.
func (c *client) learnRoot() *x509.Certificate {
	conn := c.dial(&tls.Config{InsecureSkipVerify: true})
	defer conn.Close()
	for _, one := range conn.ConnectionState().PeerCertificates {
		pin := fmt.Sprintf("sha256:%x", sha256.Sum256(one.RawSubjectPublicKeyInfo))
		if bytes.Equal(one.RawSubject, one.RawIssuer) && pin == c.Pin {
			return one
		}
	}
	require(false, "server: it does not show the pinned root")
	return nil
}

// ask is each further connection: server checked, binding made, only then anything written.
func (c *client) ask(r request) *answer {
	roots := x509.NewCertPool()
	roots.AddCert(c.root)
	conn := c.dial(&tls.Config{RootCAs: roots, Certificates: r.certificates})
	defer conn.Close()
	uris := conn.ConnectionState().PeerCertificates[0].URIs
	require(len(uris) == 1 && uris[0].String() == "spiffe://"+c.TrustDomain+"/vouch/server", "server identity")
	binding := map[string]any{}
	session := conn.ConnectionState()
	channel := must(session.ExportKeyingMaterial("EXPORTER-Channel-Binding", nil, 32))
	if c.bindByNonce {
		var challenge struct{ Nonce []byte }
		c.exchange(conn, "/v1/challenge", struct{}{}, &challenge)
		channel, binding["nonce"] = challenge.Nonce, challenge.Nonce
	}
	evidence := sha256.Sum256(r.evidence)
	digest := sha256.Sum256(append(append([]byte("vouch-enroll-v1"), channel...), evidence[:]...))
	binding["signature"] = must(ecdsa.SignASN1(rand.Reader, r.key, digest[:]))
	r.body["binding"] = binding
	got := &answer{}
	c.exchange(conn, r.path, r.body, got)
	return got
}

func (c *client) dial(config *tls.Config) *tls.Conn {
	at := must(url.Parse(c.Server))
	config.ServerName, config.MinVersion, config.NextProtos = at.Hostname(), tls.VersionTLS13, []string{"http/1.1"}
	return must(tls.Dial("tcp", at.Host, config))
}

// exchange posts JSON on this very connection. A problem ends the program, its code first.
func (c *client) exchange(conn *tls.Conn, path string, body, into any) {
	post := must(http.NewRequest(http.MethodPost, c.Server+path, bytes.NewReader(must(json.Marshal(body)))))
	post.Header.Set("Content-Type", "application/json")
	check(post.Write(conn))
	response := must(http.ReadResponse(bufio.NewReader(conn), post))
	defer response.Body.Close()
	limited := json.NewDecoder(io.LimitReader(response.Body, 1<<20))
	if response.StatusCode != http.StatusOK {
		var problem struct{ Code, Detail string }
		_ = limited.Decode(&problem)
		check(fmt.Errorf("%s %d %s", problem.Code, response.StatusCode, problem.Detail))
	}
	check(limited.Decode(into))
}
