package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// process is what is read of a process.
type process struct {
	parent int
	own    time.Duration // processor time
	used   time.Duration // the same with that of its ended children
}

// readProcess reads a process' line of proc(5), whose times are in ticks of 10 ms.
func readProcess(id int) (p process, err error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", id))
	if err != nil {
		return p, err
	}
	// Behind the name: state, parent, …, utime, stime, cutime, cstime.
	fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
	if len(fields) < 15 {
		return p, fmt.Errorf("cannot read the times of process %d", id)
	}
	if p.parent, err = strconv.Atoi(fields[1]); err != nil {
		return p, err
	}
	for i, f := range fields[11:15] {
		ticks, err := strconv.Atoi(f)
		if err != nil {
			return p, err
		}
		took := time.Duration(ticks) * 10 * time.Millisecond
		if i < 2 {
			p.own += took
		}
		p.used += took
	}
	return p, nil
}

// processes are the running processes by id.
type processes map[int]process

func readProcesses() (processes, error) {
	names, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return nil, err
	}
	list := make(processes, len(names))
	for _, name := range names {
		id, err := strconv.Atoi(filepath.Base(name))
		if err != nil {
			return nil, err
		}
		p, err := readProcess(id)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
			continue // it has ended
		}
		if err != nil {
			return nil, err
		}
		list[id] = p
	}
	return list, nil
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
