package main

import (
	"context"
	"crypto/x509"
	"encoding/hex"
	"os"

	"github.com/spiffe/go-spiffe/v2/proto/spiffe/workload"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
)

// The `crl` fields, which go-spiffe drops: the messages as its generated client has them.
func crls(ctx context.Context, _ []string) error {
	conn, err := grpc.NewClient(os.Getenv("SPIFFE_ENDPOINT_SOCKET"), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer conn.Close()
	ctx = metadata.AppendToOutgoingContext(ctx, "workload.spiffe.io", "true")
	client := workload.NewSpiffeWorkloadAPIClient(conn)
	svids, err := client.FetchX509SVID(ctx, &workload.X509SVIDRequest{})
	if err != nil {
		return err
	}
	bundles, err := client.FetchX509Bundles(ctx, &workload.X509BundlesRequest{})
	if err != nil {
		return err
	}
	ended := make(chan error)
	go func() {
		for {
			message, err := svids.Recv()
			if err != nil {
				ended <- err
				return
			}
			sayRevoked("svids", message.Crl)
		}
	}()
	go func() {
		for {
			message, err := bundles.Recv()
			if err != nil {
				ended <- err
				return
			}
			sayRevoked("bundles", message.Crl)
		}
	}()
	return <-ended
}

func sayRevoked(stream string, crls [][]byte) {
	revoked := []string{}
	for _, der := range crls {
		crl, err := x509.ParseRevocationList(der)
		if err != nil {
			say(line{"stream": stream, "error": err.Error()})
			return
		}
		for _, entry := range crl.RevokedCertificateEntries {
			revoked = append(revoked, hex.EncodeToString(entry.SerialNumber.Bytes()))
		}
	}
	say(line{"stream": stream, "crls": len(crls), "revoked": revoked})
}
