package main

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// tick is the unit of CPU times in /proc (proc(5), USER_HZ).
const tick = 10 * time.Millisecond

// usage is how long one core was busy so far, and how long each of some processes that have it ran.
type usage struct {
	core time.Duration
	own  []time.Duration
}

// used reads the time that a core has been busy for anyone (the hypervisor's other guests, too), and that of processes.
func used(core int, pids []int) (usage, error) {
	stat, err := os.ReadFile("/proc/stat")
	if err != nil {
		return usage{}, err
	}
	now := usage{}
	for _, line := range strings.Split(string(stat), "\n") {
		fields := strings.Fields(line)
		if len(fields) > 8 && fields[0] == fmt.Sprintf("cpu%d", core) {
			// user, nice, system, irq, softirq, steal; not idle and iowait.
			now.core = ticks(fields[1], fields[2], fields[3], fields[6], fields[7], fields[8])
		}
	}
	for _, pid := range pids {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			return usage{}, err
		}
		fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
		if len(fields) < 13 {
			return usage{}, fmt.Errorf("/proc/%d/stat cannot be read", pid)
		}
		now.own = append(now.own, ticks(fields[11], fields[12]))
	}
	return now, nil
}

func ticks(values ...string) time.Duration {
	var sum time.Duration
	for _, value := range values {
		count, err := strconv.ParseInt(value, 10, 64)
		if err == nil {
			sum += time.Duration(count) * tick
		}
	}
	return sum
}

// foreign is how long others had the core between two readings.
func foreign(before, after usage) time.Duration {
	others := after.core - before.core
	for i := range after.own {
		others -= after.own[i] - before.own[i]
	}
	if others < 0 {
		return 0
	}
	return others
}
