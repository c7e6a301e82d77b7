package failpoint

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Variable holds the orders.
const Variable = "IMGUS_TEST_FAILPOINTS"

// Order tells a program that has come to the point to create the file, and to
// go on when Release was called.
func Order(p Point, file string) string { return string(p) + "=signal:" + file }

// Release lets a program go on that waits at a point.
func Release(file string) error { return os.WriteFile(file+".go", nil, 0o600) }

// plan is what the orders come to. It is safe for concurrent use.
type plan struct {
	mu     sync.Mutex
	passed map[Point]int
	orders []order
}

type order struct {
	point  Point
	nth    int
	action func() error
}

func parse(text string) (*plan, error) {
	p := &plan{passed: map[Point]int{}}
	for part := range strings.SplitSeq(text, ";") {
		if part == "" {
			continue
		}
		o, err := parseOrder(part)
		if err != nil {
			return nil, fmt.Errorf("%s: %q: %w", Variable, part, err)
		}
		p.orders = append(p.orders, o)
	}
	return p, nil
}

func parseOrder(text string) (order, error) {
	where, what, _ := strings.Cut(text, "=")
	name, nth, counted := strings.Cut(where, "#")
	o := order{point: Point(name), nth: 1}
	if counted {
		var err error
		if o.nth, err = strconv.Atoi(nth); err != nil || o.nth < 1 {
			return o, errors.New("after # stands a number from one")
		}
	}
	if !slices.Contains(All(), o.point) {
		return o, errors.New("there is no such point")
	}
	action, argument, _ := strings.Cut(what, ":")
	switch action {
	case "kill":
		o.action = kill
	case "pause":
		d, err := time.ParseDuration(argument)
		if err != nil {
			return o, err
		}
		o.action = func() error { time.Sleep(d); return nil }
	case "signal":
		if argument == "" {
			return o, errors.New("signal needs a file")
		}
		o.action = func() error { return signal(argument) }
	default:
		return o, errors.New("orders are kill, pause:DURATION and signal:FILE")
	}
	return o, nil
}

func (p *plan) hit(at Point) {
	if len(p.orders) == 0 {
		return
	}
	p.mu.Lock()
	p.passed[at]++
	n := p.passed[at]
	p.mu.Unlock()
	for _, o := range p.orders {
		if o.point == at && o.nth == n {
			if err := o.action(); err != nil {
				panic(fmt.Sprintf("failpoint %s: %v", at, err))
			}
		}
	}
}

func kill() error {
	self, err := os.FindProcess(os.Getpid())
	if err == nil {
		err = self.Kill()
	}
	if err == nil {
		select {} // until the signal is there
	}
	return err
}

func signal(file string) error {
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		return err
	}
	for {
		_, err := os.Stat(file + ".go")
		if !errors.Is(err, os.ErrNotExist) {
			return err
		}
		time.Sleep(2 * time.Millisecond)
	}
}
