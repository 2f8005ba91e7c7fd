package main

import (
	"bufio"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"time"
)

const (
	// exchangeTimeout bounds dialling and each request with its answer.
	exchangeTimeout = 20 * time.Second
	answerMaxBytes  = 1 << 20
	// channelBindingLabel and channelBindingBytes: RFC 9266.
	channelBindingLabel = "EXPORTER-Channel-Binding"
	channelBindingBytes = 32
)

// dialer opens TLS 1.3 connections to one server, which it knows by the hash of its certificate: TLS proves that the
// server has that certificate's key, and a chain verified again for each connection would only load this side.
type dialer struct {
	address string
	config  *tls.Config
}

func newDialer(p plan) (*dialer, error) {
	expected, err := hex.DecodeString(p.ServerCertificateSha256)
	if err != nil || len(expected) != sha256.Size {
		return nil, errors.New("serverCertificateSha256 is no SHA-256 in hex")
	}
	host, _, err := net.SplitHostPort(p.Address)
	if err != nil {
		return nil, err
	}
	config := &tls.Config{
		ServerName:         host,
		MinVersion:         tls.VersionTLS13,
		NextProtos:         []string{"http/1.1"},
		InsecureSkipVerify: true,
		// One group for every version of Go: newer ones would choose a post-quantum hybrid.
		CurvePreferences: []tls.CurveID{tls.X25519},
		VerifyConnection: func(state tls.ConnectionState) error {
			if len(state.PeerCertificates) == 0 {
				return errors.New("the server shows no certificate")
			}
			if sha256.Sum256(state.PeerCertificates[0].Raw) != *(*[sha256.Size]byte)(expected) {
				return errors.New("the server shows another certificate than the expected one")
			}
			return nil
		},
	}
	return &dialer{address: p.Address, config: config}, nil
}

// connection is one TLS connection that carries one request at a time.
type connection struct {
	tls      *tls.Conn
	reader   *bufio.Reader
	host     string
	exporter []byte
}

func (d *dialer) open() (*connection, error) {
	raw, err := net.DialTimeout("tcp", d.address, exchangeTimeout)
	if err != nil {
		return nil, err
	}
	secured := tls.Client(raw, d.config)
	if err := secured.SetDeadline(time.Now().Add(exchangeTimeout)); err != nil {
		return nil, err
	}
	if err := secured.Handshake(); err != nil {
		raw.Close()
		return nil, fmt.Errorf("TLS handshake: %w", err)
	}
	state := secured.ConnectionState()
	exporter, err := state.ExportKeyingMaterial(channelBindingLabel, nil, channelBindingBytes)
	if err != nil {
		raw.Close()
		return nil, err
	}
	return &connection{tls: secured, reader: bufio.NewReaderSize(secured, 16*1024), host: d.address, exporter: exporter}, nil
}

// post sends one request and reads its whole answer. last: no other can follow on this connection.
func (c *connection) post(path string, body []byte, final bool) (got []byte, last bool, err error) {
	if err := c.tls.SetDeadline(time.Now().Add(exchangeTimeout)); err != nil {
		return nil, false, err
	}
	if _, err := c.tls.Write(c.request(path, body, final)); err != nil {
		return nil, false, err
	}
	response, err := http.ReadResponse(c.reader, nil)
	if err != nil {
		return nil, false, fmt.Errorf("the answer breaks off: %w", err)
	}
	defer response.Body.Close()
	got, err = io.ReadAll(io.LimitReader(response.Body, answerMaxBytes))
	if err != nil {
		return nil, false, fmt.Errorf("the answer breaks off: %w", err)
	}
	if response.StatusCode != http.StatusOK {
		return nil, false, fmt.Errorf("%s answers %d: %.500s", path, response.StatusCode, got)
	}
	return got, final || response.Close, nil
}

// request is head and body in one piece, so that they leave in one TLS record.
func (c *connection) request(path string, body []byte, final bool) []byte {
	head := make([]byte, 0, 512+len(body))
	head = append(head, "POST "+path+" HTTP/1.1\r\nHost: "+c.host+"\r\nAccept: application/json\r\nUser-Agent: vouch-load\r\n"...)
	head = append(head, "Content-Type: application/json\r\nContent-Length: "+strconv.Itoa(len(body))+"\r\n"...)
	if final {
		head = append(head, "Connection: close\r\n"...)
	}
	return append(append(head, "\r\n"...), body...)
}

func (c *connection) close() {
	c.tls.Close()
}
