package onnx

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"

	ort "github.com/yalue/onnxruntime_go"

	"github.com/imgus/worker/models/onnxfile"
)

// Options say how a session runs.
type Options struct {
	Device Device
	// Threads is the number of threads within an operator; 0 lets ONNX Runtime
	// choose.
	Threads int
	// CUDA are options of the CUDA provider, handed over as they are.
	CUDA map[string]string
}

// Source is where a model's bytes are: a file, or memory.
type Source struct {
	Path string
	Data []byte
}

// Session is one loaded model. It is safe for concurrent use.
type Session struct {
	inputs, outputs []onnxfile.Value
	session         *ort.DynamicAdvancedSession
}

// Load loads a model. edit, if not nil, may change its graph first.
func (r *Runtime) Load(source Source, options Options, edit func(*onnxfile.Model) (bool, error)) (*Session, error) {
	data := source.Data
	if source.Path != "" {
		mapped, unmap, err := onnxfile.Map(source.Path)
		if err != nil {
			return nil, err
		}
		defer unmap()
		data = mapped
	}
	model, err := onnxfile.Parse(data)
	if err != nil {
		return nil, err
	}
	edited := false
	if edit != nil {
		if edited, err = edit(model); err != nil {
			return nil, err
		}
	}
	so, err := sessionOptions(options)
	if err != nil {
		return nil, err
	}
	defer so.Destroy() //nolint:errcheck // frees memory only

	s := &Session{inputs: slices.Clone(model.Inputs), outputs: slices.Clone(model.Outputs)}
	in, out := names(s.inputs), names(s.outputs)
	switch {
	case source.Path != "" && !edited:
		s.session, err = ort.NewDynamicAdvancedSession(source.Path, in, out, so)
	default:
		if source.Path != "" {
			// External data is looked for beside the file the bytes came from.
			if err := so.AddSessionConfigEntry("session.model_external_initializers_file_folder_path", filepath.Dir(source.Path)); err != nil {
				return nil, fmt.Errorf("create session: %w", err)
			}
		}
		if edited {
			data = model.Encode()
		}
		s.session, err = ort.NewDynamicAdvancedSessionWithONNXData(data, in, out, so)
	}
	if err != nil {
		return nil, fmt.Errorf("create session: %w", classify(err))
	}
	return s, nil
}

func sessionOptions(options Options) (*ort.SessionOptions, error) {
	so, err := ort.NewSessionOptions()
	if err != nil {
		return nil, fmt.Errorf("create session options: %w", err)
	}
	set := func() error {
		if err := so.SetGraphOptimizationLevel(ort.GraphOptimizationLevelEnableAll); err != nil {
			return err
		}
		if options.Threads > 0 {
			if err := so.SetIntraOpNumThreads(options.Threads); err != nil {
				return err
			}
		}
		if options.Device != CPU {
			// Weights outside the arena let its memory be given back.
			if err := so.AddSessionConfigEntry("session.use_device_allocator_for_initializers", "1"); err != nil {
				return err
			}
		}
		return options.Device.addProvider(so, options.CUDA)
	}
	if err := set(); err != nil {
		_ = so.Destroy()
		return nil, fmt.Errorf("set session options: %w", err)
	}
	return so, nil
}

// Inputs describes the model's inputs.
func (s *Session) Inputs() []onnxfile.Value { return s.inputs }

// Outputs describes the model's outputs.
func (s *Session) Outputs() []onnxfile.Value { return s.outputs }

// Input finds an input by the first of the names that it has.
func (s *Session) Input(names ...string) (onnxfile.Value, bool) { return find(s.inputs, names) }

// Output finds an output by the first of the names that it has.
func (s *Session) Output(names ...string) (onnxfile.Value, bool) { return find(s.outputs, names) }

// Close frees the session. No run may be under way.
func (s *Session) Close() error {
	if err := s.session.Destroy(); err != nil {
		return fmt.Errorf("close session: %w", err)
	}
	return nil
}

// Binding is a session with the tensors of all its inputs and outputs, ready to
// run again and again without allocating.
type Binding struct {
	session         *Session
	tensors         map[string]*Tensor
	inputs, outputs []ort.Value
}

// Bind allocates tensors for every input and output. shape gives each its
// shape; nil is a scalar.
func (s *Session) Bind(shape func(v onnxfile.Value) ([]int64, error)) (*Binding, error) {
	b := &Binding{session: s, tensors: map[string]*Tensor{}}
	for _, v := range slices.Concat(s.inputs, s.outputs) {
		dims, err := shape(v)
		if err == nil {
			b.tensors[v.Name], err = NewTensor(v.Type, dims...)
		}
		if err != nil {
			delete(b.tensors, v.Name)
			b.Close()
			return nil, fmt.Errorf("bind %s: %w", v.Name, err)
		}
	}
	b.inputs = make([]ort.Value, len(s.inputs))
	b.outputs = make([]ort.Value, len(s.outputs))
	for i, v := range s.outputs {
		b.outputs[i] = b.tensors[v.Name].value
	}
	return b, nil
}

// Tensor is the tensor of the input or output with the name, or nil.
func (b *Binding) Tensor(name string) *Tensor { return b.tensors[name] }

// Run runs the model on what the input tensors hold. It returns the cause of
// stop's context when that ended the run.
func (b *Binding) Run(stop *Stop) error {
	for i, v := range b.session.inputs {
		t := b.tensors[v.Name]
		if err := t.beforeRun(); err != nil {
			return err
		}
		b.inputs[i] = t.value
	}
	if err := b.session.session.RunWithOptions(b.inputs, b.outputs, stop.options); err != nil {
		if stop.ctx.Err() != nil {
			return context.Cause(stop.ctx)
		}
		return fmt.Errorf("run model: %w", classify(err))
	}
	for _, v := range b.session.outputs {
		b.tensors[v.Name].afterRun()
	}
	return nil
}

// Clear overwrites what the tensors hold with zeros; switches stay.
func (b *Binding) Clear() {
	for _, t := range b.tensors {
		t.clear()
	}
}

// Close clears and frees the tensors.
func (b *Binding) Close() {
	b.Clear()
	for _, t := range b.tensors {
		t.destroy()
	}
}

// Stop lets a context end the runs that are made for it.
type Stop struct {
	ctx     context.Context //nolint:containedctx // it is the whole of a Stop, which lives as long as one call
	options *ort.RunOptions
	release func() bool
	done    chan struct{}
}

// NewStop watches ctx. Close it after the last run.
func NewStop(ctx context.Context) (*Stop, error) {
	options, err := ort.NewRunOptions()
	if err != nil {
		return nil, fmt.Errorf("create run options: %w", err)
	}
	s := &Stop{ctx: ctx, options: options, done: make(chan struct{})}
	s.release = context.AfterFunc(ctx, func() {
		defer close(s.done)
		_ = options.Terminate() // sets a flag
	})
	return s, nil
}

// Context is what is watched.
func (s *Stop) Context() context.Context { return s.ctx }

// Close ends the watch. No run may be under way.
func (s *Stop) Close() {
	if !s.release() {
		<-s.done // the flag is being set: its memory must live until then
	}
	_ = s.options.Destroy()
}

func names(values []onnxfile.Value) []string {
	out := make([]string, len(values))
	for i, v := range values {
		out[i] = v.Name
	}
	return out
}

func find(values []onnxfile.Value, names []string) (onnxfile.Value, bool) {
	for _, name := range names {
		if i := slices.IndexFunc(values, func(v onnxfile.Value) bool { return v.Name == name }); i >= 0 {
			return values[i], true
		}
	}
	return onnxfile.Value{}, false
}
