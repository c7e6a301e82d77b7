package local

import (
	"context"
	"errors"
	"fmt"
	"image"
	"maps"
	"math"
	"slices"

	"github.com/imgus/worker/imaging"
	"github.com/imgus/worker/inference"
	"github.com/imgus/worker/inference/onnx"
	"github.com/imgus/worker/job"
	"github.com/imgus/worker/models"
	"github.com/imgus/worker/models/onnxfile"
)

var _ inference.Classifier = (*Engine)(nil)

// ErrClassifier: the classifier of pictures cannot be used.
var ErrClassifier = errors.New("the classifier of pictures cannot be used")

// classifier is the image classifier on one device. Whoever holds the device may
// run it.
type classifier struct {
	manifest *models.Classifier
	session  *onnx.Session
	binding  *onnx.Binding
	input    *onnx.Tensor
	output   *onnx.Tensor
}

// startClassifier loads the classifier, if there is one, onto every device. It
// stays there, so its size is no longer the models' to use.
func (e *Engine) startClassifier(runtime *onnx.Runtime) error {
	m := e.options.Classifier
	if m == nil {
		return nil
	}
	data, err := m.Read()
	if err != nil {
		return fmt.Errorf("%w: %w", ErrClassifier, err)
	}
	for _, d := range e.devices {
		if d.classifier, err = openClassifier(runtime, m, data, exact(d.sessions)); err != nil {
			return fmt.Errorf("%w: %w", ErrClassifier, err)
		}
		e.closers = slices.Insert(e.closers, 0, d.classifier.close)
		d.memory.reserve(int64(len(data)))
	}
	e.options.Log.Info("classifier loaded", "classifier", m.Name, "bytes", len(data))
	return nil
}

// exact has CUDA multiply in full, if nobody says otherwise: TF32 has ten bits,
// which is too few for a score to be what it is elsewhere.
func exact(o onnx.Options) onnx.Options {
	const option = "use_tf32"
	if _, set := o.CUDA[option]; !set && o.Device != onnx.CPU {
		o.CUDA = maps.Clone(o.CUDA)
		if o.CUDA == nil {
			o.CUDA = map[string]string{}
		}
		o.CUDA[option] = "0"
	}
	return o
}

// openClassifier loads the classifier and tries it.
func openClassifier(runtime *onnx.Runtime, m *models.Classifier, data []byte, o onnx.Options) (_ *classifier, err error) {
	c := &classifier{manifest: m}
	if c.session, err = runtime.Load(onnx.Source{Data: data}, o, nil); err != nil {
		return nil, fmt.Errorf("load classifier %s: %w", m.Name, err)
	}
	if err := c.bind(); err != nil {
		return nil, fmt.Errorf("load classifier %s: %w", m.Name, errors.Join(err, c.close()))
	}
	return c, nil
}

// bind makes the tensors, as the manifest says, and tries the model on them.
func (c *classifier) bind() (err error) {
	m := c.manifest
	ins, outs := c.session.Inputs(), c.session.Outputs()
	if len(ins) != 1 || len(outs) == 0 {
		return fmt.Errorf("it has %d inputs and %d outputs; one picture and its scores are needed", len(ins), len(outs))
	}
	in := []int64{1, 3, int64(m.Input.Height), int64(m.Input.Width)}
	if m.Input.Layout == "nhwc" {
		in = []int64{1, int64(m.Input.Height), int64(m.Input.Width), 3}
	}
	if c.binding, err = c.session.Bind(func(v onnxfile.Value) ([]int64, error) {
		want := in
		if v.Name != ins[0].Name {
			if want = []int64{1, int64(len(m.Output.Labels))}; v.Name != outs[0].Name {
				return nil, errors.New("it is one output too many")
			}
		}
		return want, fits(v, want)
	}); err != nil {
		return err
	}
	c.input, c.output = c.binding.Tensor(ins[0].Name), c.binding.Tensor(outs[0].Name)
	// It is tried with grey, so that what cannot run is known before the first
	// job.
	grey := image.NewNRGBA(image.Rect(0, 0, m.Input.Width, m.Input.Height))
	for i := range grey.Pix {
		grey.Pix[i] = 128
	}
	_, err = c.scores(context.Background(), grey)
	return err
}

// fits holds an input or output to the shape that the manifest says.
func fits(v onnxfile.Value, want []int64) error {
	ok := len(v.Dims) == len(want) && (v.Type == onnxfile.Float32 || v.Type == onnxfile.Float16)
	for i := range min(len(v.Dims), len(want)) {
		ok = ok && (v.Dims[i] == onnxfile.Dynamic || v.Dims[i] == want[i])
	}
	if !ok {
		return fmt.Errorf("it is %s of shape %v; the manifest says %v", v.Type, v.Dims, want)
	}
	return nil
}

func (c *classifier) close() error {
	if c.binding != nil {
		c.binding.Close()
	}
	return c.session.Close()
}

// Classify implements inference.Classifier.
func (e *Engine) Classify(ctx context.Context, p inference.Picture) (*inference.Classification, error) {
	d, err := e.take(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { e.free <- d }()
	if d.classifier == nil {
		return nil, job.Errorf(job.EngineFailed, "the engine has no classifier of pictures")
	}
	limits := job.HardLimits()
	if p.Target == job.TargetInput {
		limits = limits.Narrow(e.options.Limits)
	}
	picture, err := decode(ctx, p.Data, string(p.Target), limits)
	if err != nil {
		if p.Target != job.TargetInput && ctx.Err() == nil {
			err = job.Wrap(job.EngineFailed, err, "a picture that was made cannot be read again")
		}
		return nil, err
	}
	defer imaging.Wipe(picture)
	scores, err := d.classifier.scores(ctx, picture)
	if err != nil {
		return nil, e.judge(ctx, err)
	}
	return &inference.Classification{Scores: scores, Digest: d.classifier.manifest.Digest()}, nil
}

// scores runs the classifier on a picture.
func (c *classifier) scores(ctx context.Context, picture *image.NRGBA) (map[string]float64, error) {
	defer c.binding.Clear()
	c.fill(picture)
	stop, err := onnx.NewStop(ctx)
	if err != nil {
		return nil, err
	}
	defer stop.Close()
	if err := c.binding.Run(stop); err != nil {
		return nil, fmt.Errorf("classify: %w", err)
	}
	labels := c.manifest.Output.Labels
	scores := make(map[string]float64, len(labels))
	for i, v := range activate(c.output.Floats(), c.manifest.Output.Activation) {
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return nil, errors.New("classify: the score is no number")
		}
		scores[labels[i]] = v
	}
	return scores, nil
}

// fill makes the model's input of a picture.
func (c *classifier) fill(picture *image.NRGBA) {
	in := c.manifest.Input
	scaled := c.scale(picture)
	cut := middle(scaled, in.Width, in.Height)
	if c.manifest.JPEG > 0 {
		cut = imaging.Recompress(cut, c.manifest.JPEG)
	}
	out := c.input.Floats()
	pixels := in.Width * in.Height
	for i := range pixels {
		p := cut.Pix[i/in.Width*cut.Stride+4*(i%in.Width):]
		for channel := range 3 {
			from, to := channel, channel*pixels+i
			if in.Channels == "bgr" {
				from = 2 - channel
			}
			if in.Layout == "nhwc" {
				to = 3*i + channel
			}
			out[to] = float32((float64(float64(p[from])*in.Scale) - in.Mean[channel]) / in.Std[channel])
		}
	}
	imaging.Wipe(cut)
	if scaled != picture {
		imaging.Wipe(scaled)
	}
}

var filters = map[string]imaging.Filter{"box": imaging.Box, "bilinear": imaging.Bilinear, "bicubic": imaging.Bicubic, "lanczos": imaging.Lanczos}

// longest is how many times longer than wide a picture may be, before its ends
// are cut off: what the model sees lies in the middle, and scaling the rest would
// take memory without end.
const longest = 16

// scale resizes as the manifest says. The longer side is cut to whole pixels, as
// torchvision's Resize does it.
func (c *classifier) scale(picture *image.NRGBA) *image.NRGBA {
	r := c.manifest.Resize
	w, h := r.Width, r.Height
	if r.Shorter > 0 {
		from := picture.Rect.Size()
		short := min(from.X, from.Y)
		if max(from.X, from.Y) > longest*short {
			from = image.Pt(min(from.X, longest*short), min(from.Y, longest*short))
			picture = middle(picture, from.X, from.Y)
		}
		w, h = r.Shorter*from.X/short, r.Shorter*from.Y/short
	}
	return imaging.ResizeBy(picture, w, h, filters[r.Filter])
}

// middle gives the picture's middle, where it stands; half a pixel goes to the
// even side, as torchvision's CenterCrop does it.
func middle(picture *image.NRGBA, w, h int) *image.NRGBA {
	size := picture.Rect.Size()
	x, y := int(math.RoundToEven(float64(size.X-w)/2)), int(math.RoundToEven(float64(size.Y-h)/2))
	return &image.NRGBA{Pix: picture.Pix[picture.PixOffset(x, y):], Stride: picture.Stride, Rect: image.Rect(0, 0, w, h)}
}

// activate makes scores of a model's numbers.
func activate(numbers []float32, activation string) []float64 {
	out := make([]float64, len(numbers))
	sum, largest := 0.0, math.Inf(-1)
	for _, v := range numbers {
		largest = max(largest, float64(v))
	}
	for i, v := range numbers {
		switch activation {
		case "softmax":
			out[i] = math.Exp(float64(v) - largest)
		case "sigmoid":
			out[i] = 1 / (1 + math.Exp(-float64(v)))
		default:
			out[i] = float64(v)
		}
		sum += out[i]
	}
	if activation == "softmax" {
		for i := range out {
			out[i] /= sum
		}
	}
	return out
}
