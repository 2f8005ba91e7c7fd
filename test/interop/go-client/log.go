package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"strings"
	"time"
)

// keyID is of the public key's BIT STRING (log-format.md, Leaf).
func keyID(c *x509.Certificate) []byte {
	var info struct {
		Algorithm pkix.AlgorithmIdentifier
		Key       asn1.BitString
	}
	must(asn1.Unmarshal(c.RawSubjectPublicKeyInfo, &info))
	hash := sha256.Sum256(info.Key.Bytes)
	return hash[:20]
}

// statementAlgorithms are the JWS algorithms of a root, by what its certificate is signed with.
var statementAlgorithms = map[x509.SignatureAlgorithm]string{
	x509.ECDSAWithSHA256:  "ES256",
	x509.ECDSAWithSHA384:  "ES384",
	x509.SHA256WithRSA:    "RS256",
	x509.SHA256WithRSAPSS: "PS256",
	x509.PureEd25519:      "EdDSA",
}

// openBundle returns the log keys of the root's statement (log-format.md, Statement).
func (c *client) openBundle(got *answer) []string {
	found := false
	for _, key := range got.Bundle.Keys {
		found = found || key.Use == "x509-svid" && len(key.X5c) > 0 && bytes.Equal(key.X5c[0], c.root.Raw)
	}
	require(found, "bundle: the root is missing")
	parts := strings.Split(got.Bundle.Statement, ".")
	require(len(parts) == 3, "statement")
	algorithm := c.root.SignatureAlgorithm
	header := fmt.Sprintf(`{"alg":"%s","kid":"%x","typ":"vouch-statement+jwt"}`, statementAlgorithms[algorithm], keyID(c.root))
	require(parts[0] == base64.RawURLEncoding.EncodeToString([]byte(header)), "statement header")
	signature := must(base64.RawURLEncoding.DecodeString(parts[2]))
	if key, isECDSA := c.root.PublicKey.(*ecdsa.PublicKey); isECDSA {
		half := (key.Params().BitSize + 7) / 8
		require(len(signature) == 2*half, "statement signature")
		r, s := new(big.Int).SetBytes(signature[:half]), new(big.Int).SetBytes(signature[half:])
		signature = must(asn1.Marshal(struct{ R, S *big.Int }{r, s}))
	}
	require(c.root.CheckSignature(algorithm, []byte(parts[0]+"."+parts[1]), signature) == nil, "statement signature")
	var said struct {
		TrustDomain, NotAfter string
		Sequence              int64
		LogKeys               []string
	}
	check(json.Unmarshal(must(base64.RawURLEncoding.DecodeString(parts[1])), &said))
	require(said.TrustDomain == c.TrustDomain && time.Now().Before(must(time.Parse(time.RFC3339, said.NotAfter))), "statement")
	require(said.Sequence >= c.Floor.Statement && got.Bundle.Sequence >= c.Floor.Bundle, "age of the bundle")
	c.Floor.Statement, c.Floor.Bundle = said.Sequence, got.Bundle.Sequence
	return said.LogKeys
}

// openCheckpoint checks the signature (log-format.md, Checkpoint) and that the log only grew.
func (c *client) openCheckpoint(got *answer, logKeys []string) {
	gap := strings.LastIndex(got.Proof.Checkpoint, "\n\n")
	require(gap > 0, "checkpoint")
	text, lines := got.Proof.Checkpoint[:gap+1], got.Proof.Checkpoint[gap+2:]
	head := strings.Split(text, "\n")
	require(len(head) == 4 && head[1] == fmt.Sprint(got.Proof.TreeSize), "checkpoint")
	require(c.origin == "" || c.origin == head[0], "origin of the log")
	signed := false
	for _, key := range logKeys {
		parts := strings.SplitN(key, "+", 3) // the base64 may hold a plus, too
		material := must(base64.StdEncoding.DecodeString(parts[2]))
		require(material[0] == 1, "log key: only Ed25519 is known here")
		for _, line := range strings.Split(lines, "\n") {
			prefix, encoded := "— "+parts[0]+" ", ""
			if encoded = strings.TrimPrefix(line, prefix); parts[0] != head[0] || encoded == line {
				continue
			}
			noted := must(base64.StdEncoding.DecodeString(encoded))
			if hex.EncodeToString(noted[:4]) == parts[1] {
				signed = ed25519.Verify(material[1:], []byte(text), noted[4:])
				require(signed, "checkpoint signature")
			}
		}
	}
	require(signed, "checkpoint: no known key signed it")
	root := [32]byte{}
	copy(root[:], must(base64.StdEncoding.DecodeString(head[2])))
	require(got.Proof.TreeSize >= c.Floor.TreeSize, "age of the log")
	if c.origin != "" && got.Proof.TreeSize > c.Floor.TreeSize {
		require(got.Consistency.TreeSize == c.Floor.TreeSize, "consistency")
		require(grown(c.Floor.TreeSize, got.Proof.TreeSize, c.rootHash, root, got.Consistency.Path), "consistency")
	} else {
		require(c.origin == "" || root == c.rootHash, "tree of the same size")
	}
	c.origin, c.checkpoint, c.rootHash, c.Floor.TreeSize = head[0], got.Proof.Checkpoint, root, got.Proof.TreeSize
}

// openCRL checks that authority's CRL is whole, its own and fresh, and does not list subject.
func (c *client) openCRL(got *answer, authority, subject *x509.Certificate) {
	id, url := fmt.Sprintf("%x", keyID(authority)), ""
	for _, one := range got.CrlUrls {
		if one.KeyID == id {
			url = one.URL
		}
	}
	response := must(http.Get(url))
	defer response.Body.Close()
	crl := must(x509.ParseRevocationList(must(io.ReadAll(response.Body))))
	check(crl.CheckSignatureFrom(authority))
	require(bytes.Equal(crl.RawIssuer, authority.RawSubject) && fmt.Sprintf("%x", crl.AuthorityKeyId) == id, "CRL issuer")
	for _, extension := range crl.Extensions {
		// Both that make it a part, issuingDistributionPoint and deltaCRLIndicator, are critical (RFC 5280 §5.2.4, §5.2.5).
		require(!extension.Critical, "CRL: it may be a part")
	}
	require(crl.Number != nil && crl.Number.Int64() >= c.crlNumbers[id], "age of the CRL")
	require(!crl.ThisUpdate.After(time.Now()) && crl.NextUpdate.After(time.Now()), "CRL: not fresh")
	for _, entry := range crl.RevokedCertificates {
		require(entry.SerialNumber.Cmp(subject.SerialNumber) != 0, "certificate: it is revoked")
	}
	c.crlNumbers[id] = crl.Number.Int64()
}

func node(left, right [32]byte) [32]byte {
	return sha256.Sum256(append(append([]byte{1}, left[:]...), right[:]...))
}

// climb joins a hash with the path to its right edge and to its root (RFC 9162 §2.1.3.2 and §2.1.4.2).
func climb(at, last int64, seed [32]byte, path []string) (edge, root [32]byte) {
	edge, root = seed, seed
	for _, text := range path {
		var step [32]byte
		copy(step[:], must(hex.DecodeString(text)))
		require(last > 0, "path length")
		if at%2 == 1 || at == last {
			edge, root = node(step, edge), node(step, root)
			for at%2 == 0 && at != 0 {
				at, last = at/2, last/2
			}
		} else {
			root = node(root, step)
		}
		at, last = at/2, last/2
	}
	require(last == 0, "path length")
	return edge, root
}

// grown is RFC 9162 §2.1.4.2.
func grown(oldSize, newSize int64, oldRoot, newRoot [32]byte, path []string) bool {
	at, last, seed := oldSize-1, newSize-1, oldRoot
	for at%2 == 1 {
		at, last = at/2, last/2
	}
	if oldSize&(oldSize-1) != 0 && len(path) > 0 {
		copy(seed[:], must(hex.DecodeString(path[0])))
		path = path[1:]
	}
	edge, root := climb(at, last, seed, path)
	return edge == oldRoot && root == newRoot
}
