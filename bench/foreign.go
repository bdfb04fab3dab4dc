package main

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"
)

// processes holds, by id, each process' parent and the processor time that it
// and its ended children have used.
type processes map[int]process

type process struct {
	parent int
	used   time.Duration
}

func readProcesses() (processes, error) {
	names, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return nil, err
	}
	p := make(processes, len(names))
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			continue // it has ended
		}
		// Fields of proc(5) behind the name: state, parent, …, utime, stime, cutime, cstime.
		fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
		id, err := strconv.Atoi(filepath.Base(filepath.Dir(name)))
		if err != nil || len(fields) < 15 {
			return nil, fmt.Errorf("cannot read %s", name)
		}
		var x process
		if x.parent, err = strconv.Atoi(fields[1]); err != nil {
			return nil, err
		}
		for _, f := range fields[11:15] {
			ticks, err := strconv.Atoi(f)
			if err != nil {
				return nil, err
			}
			x.used += time.Duration(ticks) * 10 * time.Millisecond
		}
		p[id] = x
	}
	return p, nil
}

// foreign returns which part of the machine's processors programs that are not
// ours used between two readings.
func foreign(before, after processes, took time.Duration, ours func(id int, p processes) bool) float64 {
	used := time.Duration(0)
	for id, x := range after {
		if !ours(id, after) {
			used += x.used - before[id].used
		}
	}
	return max(0, used.Seconds()/took.Seconds()/float64(runtime.NumCPU()))
}

// descends returns a test for the given processes and their descendants.
func descends(roots ...int) func(int, processes) bool {
	return func(id int, p processes) bool {
		for range 100 {
			for _, root := range roots {
				if id == root {
					return true
				}
			}
			x, ok := p[id]
			if !ok || x.parent == id {
				return false
			}
			id = x.parent
		}
		return false
	}
}
