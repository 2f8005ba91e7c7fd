package main

import (
	"sort"
	"sync"
	"sync/atomic"
	"time"
)

// source gives the requests of a plan and judges their answers.
type source interface {
	// body is the n-th request for a connection with that exporter; nil when there are no more.
	body(n int, exporter []byte) ([]byte, error)
	// path that they are posted to.
	path() string
	// check judges every answer and completes the report.
	check(answers []answer, samples int, made *report) error
}

// answer to the n-th request.
type answer struct {
	n int
	// at is when it was whole, from the start of the plan.
	at           time.Duration
	took         time.Duration
	requestBytes int
	body         []byte
}

// drive keeps a number of connections busy until time or requests run out, or the first failure.
type drive struct {
	plan      plan
	dial      *dialer
	questions source
	started   time.Time
	next      int64

	// over is closed when no more requests are to be made, emptied when there are none left.
	over    chan struct{}
	emptied chan struct{}
	empty   sync.Once

	mutex   sync.Mutex
	failure error
	failed  chan struct{}
	answers []answer

	// What counts lies between these, from the start; with the core's use at both.
	from, to      time.Duration
	before, after usage
}

func newDrive(p plan, dial *dialer, questions source) *drive {
	return &drive{
		plan:      p,
		dial:      dial,
		questions: questions,
		over:      make(chan struct{}),
		emptied:   make(chan struct{}),
		failed:    make(chan struct{}),
	}
}

// run returns all answers in the order of their requests.
func (d *drive) run() ([]answer, error) {
	opened := make([]*connection, d.plan.Connections)
	if d.keepsAlive() {
		for i := range opened {
			var err error
			if opened[i], err = d.dial.open(); err != nil {
				return nil, err
			}
		}
	}
	var workers sync.WaitGroup
	d.started = time.Now()
	for i := range opened {
		workers.Add(1)
		go func(mine *connection) {
			defer workers.Done()
			d.work(mine)
		}(opened[i])
	}
	d.watch()
	workers.Wait()
	sort.Slice(d.answers, func(i, j int) bool { return d.answers[i].n < d.answers[j].n })
	return d.answers, d.failure
}

func (d *drive) keepsAlive() bool {
	return d.plan.Connection == "keepalive"
}

// watch notes when counting begins and ends, and ends it.
func (d *drive) watch() {
	defer close(d.over)
	if !d.wait(d.plan.WarmupSeconds) {
		return
	}
	var err error
	if d.before, err = used(d.plan.Core, d.plan.Pids); err != nil {
		d.fail(err)
		return
	}
	d.from = time.Since(d.started)
	d.wait(d.plan.WarmupSeconds + d.plan.Seconds)
	d.to = time.Since(d.started)
	if d.after, err = used(d.plan.Core, d.plan.Pids); err != nil {
		d.fail(err)
	}
}

// wait returns true when so many seconds have passed since the start, false earlier if there is nothing more to wait for.
func (d *drive) wait(seconds float64) bool {
	timer := time.NewTimer(time.Duration(seconds*float64(time.Second)) - time.Since(d.started))
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-d.emptied:
	case <-d.failed:
	}
	return false
}

func (d *drive) work(mine *connection) {
	var answered []answer
	defer func() {
		if mine != nil {
			mine.close()
		}
		d.mutex.Lock()
		d.answers = append(d.answers, answered...)
		d.mutex.Unlock()
	}()
	for {
		select {
		case <-d.over:
			return
		default:
		}
		one, more, err := d.ask(&mine)
		if err != nil {
			d.fail(err)
			return
		}
		if !more {
			d.empty.Do(func() { close(d.emptied) })
			return
		}
		answered = append(answered, one)
	}
}

// ask makes one request, over a connection that it opens where there is none and closes where it is for one request.
func (d *drive) ask(mine **connection) (one answer, more bool, err error) {
	n := int(atomic.AddInt64(&d.next, 1)) - 1
	begun := time.Now()
	if *mine == nil {
		if *mine, err = d.dial.open(); err != nil {
			return one, false, err
		}
	}
	body, err := d.questions.body(n, (*mine).exporter)
	if err != nil || body == nil {
		return one, false, err
	}
	got, last, err := (*mine).post(d.questions.path(), body, !d.keepsAlive())
	if err != nil {
		return one, false, err
	}
	if last {
		(*mine).close()
		*mine = nil
	}
	whole := time.Now()
	return answer{n: n, at: whole.Sub(d.started), took: whole.Sub(begun), requestBytes: len(body), body: got}, true, nil
}

// fail ends the drive; the first failure is the one that is told.
func (d *drive) fail(err error) {
	d.mutex.Lock()
	defer d.mutex.Unlock()
	if d.failure == nil {
		d.failure = err
		close(d.failed)
	}
}
