// Command load asks an HTTPS server as fast as it answers and says how fast that was. It reads a plan from standard
// input and writes a report to standard output, each one JSON object. Keys, CSRs and bodies are made before the clock
// starts, answers are checked after it stopped; any answer that is not the right one makes it fail.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"sort"
	"time"
)

// plan says what to ask, whom, and for how long.
type plan struct {
	// Kind is "enroll" or "echo".
	Kind string `json:"kind"`
	// Connection is "keepalive", or "new" for a TLS connection for each request.
	Connection string `json:"connection"`
	// Address is host:port.
	Address string `json:"address"`
	// ServerCertificateSha256 is the hex hash of the only leaf certificate (DER) that is accepted.
	ServerCertificateSha256 string `json:"serverCertificateSha256"`
	// Connections that are open at once, each with one request at a time.
	Connections int `json:"connections"`
	// WarmupSeconds pass before completions count, then Seconds in which they do.
	WarmupSeconds float64 `json:"warmupSeconds"`
	Seconds       float64 `json:"seconds"`
	// Core is the processor core that the server has, and Pids are the processes that make it up.
	Core int   `json:"core"`
	Pids []int `json:"pids"`
	// Tokens are the join tokens of an enroll plan, used once each; a plan that runs out of them ends early.
	Tokens []joinToken `json:"tokens"`
	// Samples is how many answers are handed back whole.
	Samples int `json:"samples"`
	// RequestBytes and ResponseBytes are the body sizes of an echo plan.
	RequestBytes  int `json:"requestBytes"`
	ResponseBytes int `json:"responseBytes"`
}

// report is what a plan came to.
type report struct {
	// Counted completions in Seconds after the warm-up; fewer than planned where the tokens ran out.
	Counted int     `json:"counted"`
	Seconds float64 `json:"seconds"`
	// ForeignSeconds is how long others had the server's core meanwhile, OwnSeconds how long each of its processes ran.
	ForeignSeconds float64   `json:"foreignSeconds"`
	OwnSeconds     []float64 `json:"ownSeconds"`
	// Rate is completions in a second that others left to the server.
	Rate float64 `json:"rate"`
	// Answered counts all, with warm-up and what was under way at the end.
	Answered int `json:"answered"`
	// MsP50 and MsP99 are milliseconds from the first byte sent (or the dial) to the whole answer.
	MsP50 float64 `json:"msP50"`
	MsP99 float64 `json:"msP99"`
	// RequestBytes and ResponseBytes are mean body sizes.
	RequestBytes  int `json:"requestBytes"`
	ResponseBytes int `json:"responseBytes"`
	// Batch is the mean number of enrollments that share a checkpoint, and so a group commit.
	Batch   float64  `json:"batch,omitempty"`
	Samples []sample `json:"samples,omitempty"`
}

// sample is one answer for another reader to verify.
type sample struct {
	SpiffeID string          `json:"spiffeId"`
	Spki     []byte          `json:"spki"`
	Answer   json.RawMessage `json:"answer"`
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "load:", err)
		os.Exit(1)
	}
}

func run() error {
	var p plan
	if err := json.NewDecoder(os.Stdin).Decode(&p); err != nil {
		return fmt.Errorf("the plan cannot be read: %w", err)
	}
	dial, err := newDialer(p)
	if err != nil {
		return err
	}
	var questions source
	switch p.Kind {
	case "enroll":
		questions, err = newEnrollments(p.Tokens)
	case "echo":
		questions = newEchoes(p.RequestBytes, p.ResponseBytes)
	default:
		err = fmt.Errorf("no plan is of kind %q", p.Kind)
	}
	if err != nil {
		return err
	}
	drive := newDrive(p, dial, questions)
	answers, err := drive.run()
	if err != nil {
		return err
	}
	made, err := drive.report(answers)
	if err != nil {
		return err
	}
	if err := questions.check(answers, p.Samples, &made); err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(made)
}

// report counts what was answered between the end of the warm-up and the end of the plan.
func (d *drive) report(answers []answer) (report, error) {
	made := report{Answered: len(answers)}
	window := d.to - d.from
	var took []time.Duration
	var requests, responses int
	for _, one := range answers {
		requests += one.requestBytes
		responses += len(one.body)
		if one.at >= d.from && one.at < d.to {
			took = append(took, one.took)
		}
	}
	if len(took) == 0 {
		return made, fmt.Errorf("nothing was answered within %s", window)
	}
	sort.Slice(took, func(i, j int) bool { return took[i] < took[j] })
	made.Counted = len(took)
	made.Seconds = window.Seconds()
	made.ForeignSeconds = foreign(d.before, d.after).Seconds()
	for i := range d.after.own {
		made.OwnSeconds = append(made.OwnSeconds, (d.after.own[i] - d.before.own[i]).Seconds())
	}
	if made.ForeignSeconds > made.Seconds*0.9 {
		return made, fmt.Errorf("others had the server's core for %.1f of %.1f s", made.ForeignSeconds, made.Seconds)
	}
	made.Rate = float64(made.Counted) / (made.Seconds - made.ForeignSeconds)
	made.MsP50 = milliseconds(took[len(took)/2])
	made.MsP99 = milliseconds(took[len(took)*99/100])
	made.RequestBytes = requests / len(answers)
	made.ResponseBytes = responses / len(answers)
	return made, nil
}

func milliseconds(d time.Duration) float64 {
	return float64(d.Microseconds()) / 1000
}
