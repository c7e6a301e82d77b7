package remote_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unsafe"

	"github.com/imgus/worker/inference"
	"github.com/imgus/worker/job"
)

// stub is an engine that does what the prompt says. Its fields are its
// configuration.
type stub struct {
	log    *slog.Logger
	device string
	models []inference.LoadedModel

	// While is a file; while it is there Device cannot start.
	While  string `json:"while,omitempty"`
	Away   bool   `json:"away,omitempty"` // and it is said to be away
	Device string `json:"device,omitempty"`
	// Never is a device that is never ready.
	Never string `json:"never,omitempty"`
}

// open is what happens when the child starts.
func (s *stub) open() error {
	if s.device == s.Never {
		select {}
	}
	if _, err := os.Stat(s.While); err == nil && s.device == s.Device {
		if s.Away {
			return errStubAway
		}
		return errors.New("no such device")
	}
	return nil
}

var (
	errStubBroken = errors.New("the context is corrupted")
	errStubAway   = errors.New("the driver is not loaded")
)

func (s *stub) Generate(ctx context.Context, r inference.Request) (*inference.Result, error) {
	words := strings.Fields(*r.Job.Prompt)
	progress := func(stage job.Stage, step, steps int) {
		r.Progress(job.Progress{Stage: stage, Step: step, Steps: steps})
	}
	progress(job.StageLoad, 0, 0)
	s.use(r.Job.Model)
	made, err := s.do(ctx, words, r, progress)
	if err != nil {
		return nil, err
	}
	progress(job.StageEncode, 0, 0)
	return &inference.Result{
		Images:     []inference.Image{{Data: made, Format: job.PNG, Width: 2048, Height: 2048, Seed: r.Job.EffectiveSeed()}},
		Model:      job.ModelInfo{Name: r.Job.Model},
		Parameters: job.Parameters{Width: 2048, Height: 2048},
		Timings:    job.Timings{job.StageDenoise: 7},
		Engine:     job.EngineInfo{Device: "cuda:0", Provider: "stub"},
	}, nil
}

func (s *stub) do(ctx context.Context, words []string, r inference.Request, progress func(job.Stage, int, int)) ([]byte, error) {
	switch words[0] {
	case "echo":
		if len(r.Input) > 0 {
			return append(bytes.Clone(r.Input), r.Mask...), nil
		}
	case "bytes":
		n, _ := strconv.Atoi(words[1])
		return make([]byte, n), nil
	case "steps":
		n, _ := strconv.Atoi(words[1])
		each, _ := time.ParseDuration(words[2])
		for i := range n {
			progress(job.StageDenoise, i+1, n)
			select {
			case <-time.After(each):
			case <-ctx.Done():
				return nil, context.Cause(ctx)
			}
		}
		return []byte("done"), nil
	case "hang": // ignores its context
		progress(job.Stage(words[1]), 0, 0)
		select {}
	case "signal":
		progress(job.StageDenoise, 1, 2)
		n, _ := strconv.Atoi(words[1])
		if syscall.Signal(n) == syscall.SIGSTOP {
			time.Sleep(20 * time.Millisecond) // the progress gets out
		}
		_ = syscall.Kill(os.Getpid(), syscall.Signal(n))
		select {}
	case "fault":
		return []byte{*fault()}, nil
	case "panic":
		panic("as told")
	case "exit":
		syscall.Exit(3)
	case "error":
		return nil, job.Wrap(job.Code(words[1]), errors.New("private cause"), "public message")
	case "broken":
		return nil, errStubBroken
	case "about":
		return json.Marshal(aboutMe())
	case "dial":
		c, err := net.Dial(words[1], words[2])
		if err == nil {
			c.Close()
		}
		return []byte(fmt.Sprint(err)), nil
	case "exec":
		p, err := os.StartProcess("/bin/true", []string{"true"}, &os.ProcAttr{})
		if err == nil {
			_, _ = p.Wait()
		}
		return []byte(fmt.Sprint(err)), nil
	case "log":
		s.log.Info("as told", "number", 7, "device", "cuda:0", slog.Group("g", "text", "x"))
		fmt.Fprintln(os.Stderr, "plain", strings.Repeat("x", 5000))
		fmt.Fprintln(os.Stderr, `{"not":"ours"}`)
	case "grow":
		n, _ := strconv.Atoi(words[1])
		block := make([]byte, n<<20)
		for i := 0; i < len(block); i += 4096 {
			block[i] = 1
		}
		kept = append(kept, block)
	case "pid":
		return []byte(strconv.Itoa(os.Getpid())), nil
	case "device":
		return []byte(s.device), nil
	case "peek": // whether bytes of earlier jobs are still there
		return bytes.Clone(lingering), nil
	case "keep":
		lingering = r.Input
	case "unkillable": // ends only by SIGKILL, even without a parent
		forgetParent()
	}
	return []byte("done"), nil
}

var (
	kept      [][]byte
	lingering []byte
)

func (s *stub) use(model string) {
	for i, m := range s.models {
		if m.Name == model {
			s.models = append(s.models[:i], s.models[i+1:]...)
			break
		}
	}
	s.models = append([]inference.LoadedModel{{Name: model, Bytes: 1}}, s.models...)
}

func (s *stub) WarmUp(_ context.Context, w inference.WarmUp) error {
	switch w.Model {
	case "none":
		return job.Errorf(job.UnknownModel, "no such model")
	case "crash":
		syscall.Exit(4)
	case "hang":
		select {}
	case "steps":
		w.Progress(job.Progress{Stage: job.StageDenoise, Steps: 1})
		time.Sleep(5 * time.Millisecond)
		w.Progress(job.Progress{Stage: job.StageDenoise, Step: 1, Steps: 1})
		time.Sleep(5 * time.Millisecond)
		w.Progress(job.Progress{Stage: job.StageVAE})
	}
	s.use(w.Model)
	return nil
}

// Classify does what the picture says.
func (s *stub) Classify(ctx context.Context, p inference.Picture) (*inference.Classification, error) {
	switch words := strings.Fields(string(p.Data)); words[0] {
	case "exit":
		syscall.Exit(3)
	case "hang":
		select {}
	case "wait":
		<-ctx.Done()
		return nil, context.Cause(ctx)
	case "error":
		return nil, job.Wrap(job.Code(words[1]), errors.New("private cause"), "public message")
	case "nothing":
		return nil, nil
	case "labels":
		n, _ := strconv.Atoi(words[1])
		scores := map[string]float64{}
		for i := range n {
			scores[strconv.Itoa(i)] = 0
		}
		return &inference.Classification{Scores: scores}, nil
	}
	return &inference.Classification{Scores: map[string]float64{string(p.Target): float64(len(p.Data))}, Digest: "sha256:stub"}, nil
}

func (s *stub) Status(context.Context) (inference.Status, error) {
	return inference.Status{
		Engine: job.EngineInfo{Device: "cuda:0", Provider: "stub"}, Slots: 1, Models: s.models, MemoryUsed: int64(len(s.models)),
		BadModels: []inference.BadModel{{Name: "bad", Reason: "truncated"}},
		Devices:   []inference.Device{{Device: "cuda:0", Name: "A card", MemoryTotal: 8, MemoryUsed: 3, MemoryBudget: 7, Utilisation: new(50)}},
	}, nil
}

// fault is a pointer to memory that is not there any more: what a driver's bug
// looks like to the processor.
func fault() *byte {
	page, err := syscall.Mmap(-1, 0, os.Getpagesize(), syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_ANON|syscall.MAP_PRIVATE)
	if err != nil {
		panic(err)
	}
	p := unsafe.SliceData(page)
	_ = syscall.Munmap(page)
	return p
}

// about is what a child can see.
type about struct {
	Environ []string `json:"environ"`
	Args    []string `json:"args"`
	Files   []string `json:"files"`
	Core    uint64   `json:"core"`
	Device  string   `json:"device"`
}

func aboutMe() about {
	a := about{Environ: os.Environ(), Args: os.Args}
	entries, _ := os.ReadDir("/proc/self/fd")
	for _, e := range entries {
		if target, err := os.Readlink(filepath.Join("/proc/self/fd", e.Name())); err == nil {
			a.Files = append(a.Files, e.Name()+" "+target)
		}
	}
	var limit syscall.Rlimit
	_ = syscall.Getrlimit(syscall.RLIMIT_CORE, &limit)
	a.Core = limit.Max
	return a
}
