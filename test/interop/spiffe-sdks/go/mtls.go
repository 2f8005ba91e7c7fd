package main

import (
	"context"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/spiffetls/tlsconfig"
	"github.com/spiffe/go-spiffe/v2/workloadapi"
)

// dial URL SERVER: one handshake after another with this server and no other. Says each certificate that the server shows
// for the first time and as whom it knows us, and each failure; at the end how many handshakes were good.
func dial(ctx context.Context, args []string) error {
	source, err := workloadapi.NewX509Source(ctx)
	if err != nil {
		return err
	}
	defer source.Close()
	config := tlsconfig.MTLSClientConfig(source, source, tlsconfig.AuthorizeID(spiffeid.RequireFromString(args[1])))
	client := http.Client{
		Timeout:   5 * time.Second,
		Transport: &http.Transport{TLSClientConfig: config, DisableKeepAlives: true},
	}
	said, good := "", 0
	for ctx.Err() == nil {
		serial, known, err := greeted(&client, args[0])
		if err != nil {
			say(line{"failed": err.Error()})
		} else {
			good++
		}
		if err == nil && serial != said {
			said = serial
			say(line{"serial": serial, "knownAs": known})
		}
		time.Sleep(5 * time.Millisecond)
	}
	say(line{"handshakes": good})
	return nil
}

func greeted(client *http.Client, url string) (serial, known string, err error) {
	response, err := client.Get(url)
	if err != nil {
		return "", "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	return serialOf(response.TLS.PeerCertificates[0]), strings.TrimSpace(string(body)), err
}
