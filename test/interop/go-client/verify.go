package main

import (
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"encoding/hex"
	"strings"
)

type answer struct {
	Chain  [][]byte
	Bundle struct {
		Keys []struct {
			Use string
			X5c [][]byte
		}
		Sequence  int64  `json:"spiffe_sequence"`
		Statement string `json:"vouch_statement"`
	}
	Proof struct {
		Index, TreeSize, Time int64
		Context, Checkpoint   string
		Path                  []string
	}
	Consistency struct {
		TreeSize int64
		Path     []string
	}
	CrlUrls []struct{ KeyID, URL string }
}

// proven is what was verified of one answer; GrewFrom is the tree that it was proven to contain.
type proven struct {
	SpiffeID string `json:"spiffeId"`
	Serial   string `json:"serial"`
	Index    int64  `json:"index"`
	TreeSize int64  `json:"treeSize"`
	GrewFrom int64  `json:"grewFrom"`
}

// verify follows "Checking the answer", step by step.
func (c *client) verify(got *answer, key *ecdsa.PrivateKey) *proven {
	chain := make([]*x509.Certificate, len(got.Chain))
	options := x509.VerifyOptions{Roots: x509.NewCertPool(), Intermediates: x509.NewCertPool(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}
	options.Roots.AddCert(c.root)
	for i, der := range got.Chain {
		chain[i] = must(x509.ParseCertificate(der))
		options.Intermediates.AddCert(chain[i])
	}
	leaf, last := chain[0], chain[len(chain)-1]
	must(leaf.Verify(options))
	require(last.Equal(c.root) && !leaf.IsCA && leaf.KeyUsage&x509.KeyUsageDigitalSignature != 0, "chain")
	domain := "spiffe://" + c.TrustDomain + "/"
	require(len(leaf.URIs) == 1, "name")
	id := leaf.URIs[0].String()
	require(strings.HasPrefix(id, domain) && !strings.HasPrefix(id+"/", domain+"vouch/"), "name")
	require(c.spiffeID == "" || c.spiffeID == id, "name")
	require(key.PublicKey.Equal(leaf.PublicKey), "key")
	c.openCheckpoint(got, c.openBundle(got))
	made := &proven{id, leaf.SerialNumber.Text(16), got.Proof.Index, got.Proof.TreeSize, got.Consistency.TreeSize}
	bytesOf := binary.BigEndian.AppendUint64([]byte{1, 1}, uint64(got.Proof.Time))
	bytesOf = append(append(bytesOf, 20), keyID(chain[1])...)
	bytesOf = binary.BigEndian.AppendUint16(bytesOf, uint16(len(leaf.RawTBSCertificate)))
	bytesOf = append(append(bytesOf, leaf.RawTBSCertificate...), must(hex.DecodeString(got.Proof.Context))...)
	_, root := climb(got.Proof.Index, got.Proof.TreeSize-1, sha256.Sum256(append([]byte{0}, bytesOf...)), got.Proof.Path)
	require(root == c.rootHash, "inclusion")
	for i, authority := range chain[1:] {
		c.openCRL(got, authority, chain[i])
	}
	c.spiffeID = id
	return made
}
