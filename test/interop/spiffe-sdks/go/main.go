// Workloads written with go-spiffe. Each verb prints what it sees, one JSON object a line, until it is told to end.
package main

import (
	"context"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"sync"
	"syscall"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/jwtbundle"
	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/svid/jwtsvid"
	"github.com/spiffe/go-spiffe/v2/workloadapi"
	"google.golang.org/grpc/status"
)

type verb func(ctx context.Context, args []string) error

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	verbs := map[string]verb{
		"version":  version,
		"watch":    watch,
		"await":    await,
		"jwt":      jwt,
		"validate": validate,
		"crls":     crls,
		"dial":     dial,
	}
	if err := verbs[os.Args[1]](ctx, os.Args[2:]); err != nil && ctx.Err() == nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

type line map[string]any

var printing sync.Mutex

func say(what line) {
	printing.Lock()
	defer printing.Unlock()
	_ = json.NewEncoder(os.Stdout).Encode(what)
}

func serialOf(certificate *x509.Certificate) string {
	return hex.EncodeToString(certificate.SerialNumber.Bytes())
}

func version(context.Context, []string) error {
	build, _ := debug.ReadBuildInfo()
	for _, module := range build.Deps {
		if module.Path == "github.com/spiffe/go-spiffe/v2" {
			say(line{"go": runtime.Version(), "go-spiffe": module.Version})
		}
	}
	return nil
}

func state(update *workloadapi.X509Context) line {
	svids := []line{}
	for _, svid := range update.SVIDs {
		svids = append(svids, line{"id": svid.ID.String(), "hint": svid.Hint, "serial": serialOf(svid.Certificates[0])})
	}
	bundles := line{}
	for _, bundle := range update.Bundles.Bundles() {
		bundles[bundle.TrustDomain().Name()] = len(bundle.X509Authorities())
	}
	return line{"svids": svids, "bundles": bundles}
}

type watcher struct{}

func (watcher) OnX509ContextUpdate(update *workloadapi.X509Context) { say(state(update)) }

func (watcher) OnX509ContextWatchError(err error) { say(line{"error": status.Code(err).String()}) }

func (watcher) OnX509BundlesUpdate(set *x509bundle.Set) {
	for _, bundle := range set.Bundles() {
		say(line{"x509Bundle": bundle.TrustDomain().Name(), "authorities": len(bundle.X509Authorities())})
	}
}

func (watcher) OnX509BundlesWatchError(error) {}

func (watcher) OnJWTBundlesUpdate(set *jwtbundle.Set) {
	for _, bundle := range set.Bundles() {
		say(line{"jwtBundle": bundle.TrustDomain().Name(), "authorities": len(bundle.JWTAuthorities())})
	}
}

func (watcher) OnJWTBundlesWatchError(error) {}

// Every stream that there is, on one connection.
func watch(ctx context.Context, _ []string) error {
	client, err := workloadapi.New(ctx)
	if err != nil {
		return err
	}
	defer client.Close()
	go client.WatchX509Bundles(ctx, watcher{})
	go client.WatchJWTBundles(ctx, watcher{})
	return client.WatchX509Context(ctx, watcher{})
}

// Asks again and again until there is an identity.
func await(ctx context.Context, _ []string) error {
	client, err := workloadapi.New(ctx)
	if err != nil {
		return err
	}
	defer client.Close()
	said := ""
	for {
		update, err := client.FetchX509Context(ctx)
		if err == nil {
			say(state(update))
			return nil
		}
		if code := status.Code(err).String(); code != said {
			said = code
			say(line{"error": code})
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// jwt AUDIENCE…
func jwt(ctx context.Context, audience []string) error {
	source, err := workloadapi.NewJWTSource(ctx)
	if err != nil {
		return err
	}
	defer source.Close()
	svid, err := source.FetchJWTSVID(ctx, jwtsvid.Params{Audience: audience[0], ExtraAudiences: audience[1:]})
	if err != nil {
		return err
	}
	say(line{"id": svid.ID.String(), "audience": svid.Audience, "token": svid.Marshal()})
	return nil
}

// validate TRUST-DOMAIN, then pairs of AUDIENCE and TOKEN: each by the bundle alone and by the agent.
func validate(ctx context.Context, args []string) error {
	source, err := workloadapi.NewJWTSource(ctx)
	if err != nil {
		return err
	}
	defer source.Close()
	client, err := workloadapi.New(ctx)
	if err != nil {
		return err
	}
	defer client.Close()
	for pairs := args[1:]; len(pairs) >= 2; pairs = pairs[2:] {
		audience, token := pairs[0], pairs[1]
		said := line{"offline": "refused"}
		if svid, err := jwtsvid.ParseAndValidate(token, source, []string{audience}); err == nil {
			said["offline"] = svid.ID.String()
		}
		if svid, err := client.ValidateJWTSVID(ctx, token, audience); err == nil {
			said["agent"] = svid.ID.String()
		} else {
			said["agent"] = status.Code(err).String()
		}
		say(said)
	}
	return nil
}
