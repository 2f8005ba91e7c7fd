// Judge answers each line of file names, separated by tabs (root, issuer, leaf, CRLs…), with one line: "good", "revoked"
// with reason code, date and invalidityDate in seconds ("-" where there is none), or why it takes neither. It ends with
// its input. crypto/x509 reads CRLs but asks none: what it has to look at itself, an application has to as well.
package main

import (
	"bufio"
	"bytes"
	"crypto/x509"
	"encoding/asn1"
	"encoding/pem"
	"fmt"
	"os"
	"strings"
	"time"
)

func main() {
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		said, err := judge(strings.Split(lines.Text(), "\t"))
		if err != nil {
			said = strings.ReplaceAll(err.Error(), "\n", " ")
		}
		fmt.Println(said)
	}
}

func judge(names []string) (string, error) {
	var blocks [3]*x509.Certificate
	for i := range blocks {
		der, err := read(names[i])
		if err != nil {
			return "", err
		}
		if blocks[i], err = x509.ParseCertificate(der); err != nil {
			return "", err
		}
	}
	root, issuer, leaf := blocks[0], blocks[1], blocks[2]
	roots, between := x509.NewCertPool(), x509.NewCertPool()
	roots.AddCert(root)
	between.AddCert(issuer)
	if _, err := leaf.Verify(x509.VerifyOptions{Roots: roots, Intermediates: between}); err != nil {
		return "", err
	}
	var crls []*x509.RevocationList
	for _, name := range names[3:] {
		der, err := read(name)
		if err != nil {
			return "", err
		}
		crl, err := x509.ParseRevocationList(der)
		if err != nil {
			return "", err
		}
		crls = append(crls, crl)
	}
	for _, link := range [][2]*x509.Certificate{{leaf, issuer}, {issuer, root}} {
		if said, err := standing(link[0], link[1], crls); said != "good" {
			return said, err
		}
	}
	return "good", nil
}

// standing looks one certificate up in the full CRL of its issuer.
func standing(subject, issuer *x509.Certificate, crls []*x509.RevocationList) (string, error) {
	var unusable error
next:
	for _, crl := range crls {
		if !bytes.Equal(crl.RawIssuer, issuer.RawSubject) || !bytes.Equal(crl.AuthorityKeyId, issuer.SubjectKeyId) {
			continue
		}
		for _, extension := range crl.Extensions {
			// RFC 5280 §5.2: critical and not known, so not to be used. What makes a CRL a part of one is critical.
			if extension.Critical {
				unusable = fmt.Errorf("critical extension %v", extension.Id)
				continue next
			}
		}
		if err := crl.CheckSignatureFrom(issuer); err != nil {
			return "", err
		}
		if now := time.Now(); now.Before(crl.ThisUpdate) || now.After(crl.NextUpdate) {
			return "", fmt.Errorf("CRL is not current")
		}
		for _, entry := range crl.RevokedCertificates {
			if entry.SerialNumber.Cmp(subject.SerialNumber) != 0 {
				continue
			}
			reason, invalid := asn1.Enumerated(0), "-"
			for _, extension := range entry.Extensions {
				switch extension.Id.String() {
				case "2.5.29.21":
					asn1.Unmarshal(extension.Value, &reason)
				case "2.5.29.24":
					var date time.Time
					asn1.Unmarshal(extension.Value, &date)
					invalid = fmt.Sprint(date.Unix())
				}
			}
			return fmt.Sprintf("revoked %d %d %s", reason, entry.RevocationTime.Unix(), invalid), nil
		}
		return "good", nil
	}
	if unusable == nil {
		unusable = fmt.Errorf("no CRL of this issuer")
	}
	return "", unusable
}

// read returns the DER of a PEM file.
func read(name string) ([]byte, error) {
	text, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, fmt.Errorf("%s is no PEM", name)
	}
	return block.Bytes, nil
}
