package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
)

// joinToken is a token with the identity that it stands for.
type joinToken struct {
	Token    string `json:"token"`
	SpiffeID string `json:"spiffeId"`
}

// candidate is one enrollment, ready but for its binding.
type candidate struct {
	spiffeID string
	key      *ecdsa.PrivateKey
	spki     []byte
	evidence [sha256.Size]byte
	// head is the body up to the binding's signature.
	head []byte
}

// enrollments are requests for certificates, each with a token and a key of its own.
type enrollments struct {
	candidates []candidate
}

func newEnrollments(tokens []joinToken) (*enrollments, error) {
	made := &enrollments{candidates: make([]candidate, len(tokens))}
	for i, token := range tokens {
		var err error
		if made.candidates[i], err = newCandidate(token); err != nil {
			return nil, err
		}
	}
	if len(tokens) == 0 {
		return nil, errors.New("an enroll plan needs tokens")
	}
	return made, nil
}

func newCandidate(token joinToken) (candidate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return candidate{}, err
	}
	spki, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		return candidate{}, err
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		return candidate{}, err
	}
	evidence := map[string]string{"type": "join_token", "data": token.Token}
	head, err := json.Marshal(map[string]interface{}{"evidence": evidence, "csr": csr})
	if err != nil {
		return candidate{}, err
	}
	return candidate{
		spiffeID: token.SpiffeID,
		key:      key,
		spki:     spki,
		evidence: sha256.Sum256([]byte("join_token\x00" + token.Token)),
		head:     append(head[:len(head)-1], `,"binding":{"signature":"`...),
	}, nil
}

func (e *enrollments) path() string {
	return "/v1/enroll"
}

// body signs the binding: the CSR's key over this connection and this evidence.
func (e *enrollments) body(n int, exporter []byte) ([]byte, error) {
	if n >= len(e.candidates) {
		return nil, nil
	}
	one := e.candidates[n]
	bound := append([]byte("vouch-enroll-v1"), exporter...)
	digest := sha256.Sum256(append(bound, one.evidence[:]...))
	signature, err := ecdsa.SignASN1(rand.Reader, one.key, digest[:])
	if err != nil {
		return nil, err
	}
	body := make([]byte, 0, len(one.head)+128)
	body = append(body, one.head...)
	body = append(body, base64.StdEncoding.EncodeToString(signature)...)
	return append(body, `"}}`...), nil
}

// check reads every leaf: it must be for the right key and identity, with a serial and a place in the log of its own.
func (e *enrollments) check(answers []answer, samples int, made *report) error {
	serials := make(map[string]bool, len(answers))
	places := make(map[int64]bool, len(answers))
	trees := make(map[int64]bool)
	for i, one := range answers {
		wanted := e.candidates[one.n]
		var got struct {
			Chain [][]byte `json:"chain"`
			Proof struct {
				Index    int64 `json:"index"`
				TreeSize int64 `json:"treeSize"`
			} `json:"proof"`
		}
		if err := json.Unmarshal(one.body, &got); err != nil {
			return fmt.Errorf("an answer is not the JSON that it should be: %w", err)
		}
		if len(got.Chain) == 0 {
			return errors.New("an answer has no certificate")
		}
		leaf, err := x509.ParseCertificate(got.Chain[0])
		if err != nil {
			return fmt.Errorf("a leaf cannot be read: %w", err)
		}
		if !bytes.Equal(leaf.RawSubjectPublicKeyInfo, wanted.spki) {
			return fmt.Errorf("the leaf for %s is for another key", wanted.spiffeID)
		}
		if len(leaf.URIs) != 1 || leaf.URIs[0].String() != wanted.spiffeID {
			return fmt.Errorf("the leaf for %s is for %v", wanted.spiffeID, leaf.URIs)
		}
		if serials[leaf.SerialNumber.String()] || places[got.Proof.Index] {
			return fmt.Errorf("serial %x or leaf %d was given twice", leaf.SerialNumber, got.Proof.Index)
		}
		serials[leaf.SerialNumber.String()] = true
		places[got.Proof.Index] = true
		trees[got.Proof.TreeSize] = true
		if i*samples/len(answers) != (i+1)*samples/len(answers) {
			made.Samples = append(made.Samples, sample{SpiffeID: wanted.spiffeID, Spki: wanted.spki, Answer: one.body})
		}
	}
	made.Batch = float64(len(answers)) / float64(len(trees))
	return nil
}
