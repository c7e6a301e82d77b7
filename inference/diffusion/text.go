package diffusion

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/imgus/worker/inference/onnx"
	"github.com/imgus/worker/inference/tokenizer"
	"github.com/imgus/worker/job"
	"github.com/imgus/worker/models/onnxfile"
)

// embedding is an encoded prompt.
type embedding struct {
	// hidden has a vector per token: tokens x width.
	hidden []float32
	tokens int
	// pooled is the one vector of the whole prompt that SDXL asks for.
	pooled []float32
}

// textEncoder is a CLIP text model with its tokenizer.
type textEncoder struct {
	tokens  *tokenizer.Tokenizer
	session *onnx.Session
	binding *onnx.Binding
	ids     string
	hidden  string
	pooled  string
	// projection is the width of the pooled vector by the configuration.
	projection int
	// penultimate: the encoder gives the layer before its last, unnormalised,
	// as SDXL was trained.
	penultimate bool

	// reload loads the encoder with outputs for CLIP skip, which costs a
	// rewritten graph, and is done for the first job that asks for it.
	reload func() (*onnx.Session, error)
}

// openText loads the text encoder of the folder.
func openText(rt *onnx.Runtime, files Files, o onnx.Options, component, tokens string, penultimate bool) (*textEncoder, error) {
	sub, err := fs.Sub(files.FS, tokens)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", tokens, err)
	}
	var config struct {
		Projection int `json:"projection_dim"`
	}
	if err := files.config(component+"/config.json", &config); err != nil {
		return nil, err
	}
	e := &textEncoder{projection: config.Projection, penultimate: penultimate}
	if e.tokens, err = tokenizer.Load(sub); err != nil {
		return nil, fmt.Errorf("load %s: %w", tokens, err)
	}
	source, err := files.source(component)
	if err != nil {
		return nil, err
	}
	if e.session, err = rt.Load(source, o, nil); err != nil {
		return nil, fmt.Errorf("load %s: %w", component, err)
	}
	e.reload = func() (*onnx.Session, error) { return rt.Load(source, o, e.addSkips) }
	if err := e.findNames(); err != nil {
		return nil, fmt.Errorf("load %s: %w", component, closing(err, e.session))
	}
	return e, nil
}

func (e *textEncoder) findNames() error {
	inputs := e.session.Inputs()
	if len(inputs) != 1 {
		return fmt.Errorf("it has %d inputs instead of one for token ids", len(inputs))
	}
	e.ids = inputs[0].Name
	if v, ok := e.session.Output("text_embeds", "pooler_output"); ok {
		e.pooled = v.Name
	}
	hidden, ok := e.session.Output("last_hidden_state", "text_embeddings")
	if e.penultimate {
		hidden, ok = e.session.Output(hiddenState(e.layers() - 1))
	}
	if !ok {
		return fmt.Errorf("it does not give the hidden states of the layer that the UNet needs")
	}
	e.hidden = hidden.Name
	return nil
}

// layers counts the transformer layers by the hidden states that the export
// gives: one before the first layer, and one after each.
func (e *textEncoder) layers() int {
	n := 0
	for {
		if _, ok := e.session.Output(hiddenState(n + 1)); !ok {
			return n
		}
		n++
	}
}

func hiddenState(i int) string { return fmt.Sprintf("hidden_states.%d", i) }

func skipName(skipped int) string { return fmt.Sprintf("clip_skip.%d", skipped) }

// ErrClipSkip: the text encoder cannot leave out that many layers.
var ErrClipSkip = errors.New("clip_skip: the model's text encoder cannot leave out that many layers")

// skipped gives the output that leaves out the layers.
func (e *textEncoder) skipped(skip int) (string, error) {
	if skip == 0 {
		return e.hidden, nil
	}
	if e.penultimate {
		if v, ok := e.session.Output(hiddenState(e.layers() - 1 - skip)); ok {
			return v.Name, nil
		}
		return "", ErrClipSkip
	}
	if v, ok := e.session.Output(skipName(skip)); ok {
		return v.Name, nil
	}
	session, err := e.reload()
	if errors.Is(err, onnxfile.ErrLayers) {
		return "", fmt.Errorf("%w: %w", ErrClipSkip, err)
	}
	if err != nil {
		return "", err
	}
	if err := e.close(); err != nil {
		return "", closing(err, session)
	}
	e.session, e.binding = session, nil
	if v, ok := e.session.Output(skipName(skip)); ok {
		return v.Name, nil
	}
	return "", ErrClipSkip
}

func (e *textEncoder) addSkips(m *onnxfile.Model) (bool, error) {
	if _, err := m.SkipLayers(e.hidden, job.MaxClipSkip, skipName); err != nil {
		return false, err
	}
	return true, nil
}

// encode encodes one prompt, leaving out the last skip layers.
func (e *textEncoder) encode(stop *onnx.Stop, prompt string, skip int) (embedding, error) {
	hidden, err := e.skipped(skip)
	if err != nil {
		return embedding{}, err
	}
	ids := e.tokens.Prompt(prompt)
	if err := e.bind(len(ids)); err != nil {
		return embedding{}, err
	}
	in := e.binding.Tensor(e.ids)
	for i, id := range ids {
		in.SetInt(i, int64(id))
	}
	if err := e.binding.Run(stop); err != nil {
		return embedding{}, err
	}
	out := embedding{hidden: clone(e.binding.Tensor(hidden).Floats()), tokens: len(ids)}
	if e.pooled != "" {
		out.pooled = clone(e.binding.Tensor(e.pooled).Floats())
	}
	return out, nil
}

func (e *textEncoder) bind(tokens int) error {
	if e.binding != nil {
		return nil
	}
	binding, err := e.session.Bind(func(v onnxfile.Value) ([]int64, error) {
		switch {
		case v.Name == e.ids:
			return []int64{1, int64(tokens)}, nil
		case len(v.Dims) == 3 && v.Dims[2] > 0:
			return []int64{1, int64(tokens), v.Dims[2]}, nil
		case len(v.Dims) == 2:
			width, err := e.pooledWidth(v)
			return []int64{1, width}, err
		}
		return nil, fmt.Errorf("its shape %v is unknown", v.Dims)
	})
	if err != nil {
		return err
	}
	e.binding = binding
	return nil
}

// pooledWidth is the width of a pooled output. Some exports leave it dynamic;
// then the text encoder's own configuration decides.
func (e *textEncoder) pooledWidth(v onnxfile.Value) (int64, error) {
	if v.Dims[1] > 0 {
		return v.Dims[1], nil
	}
	if e.projection > 0 {
		return int64(e.projection), nil
	}
	return 0, fmt.Errorf("the width of %s is unknown: config.json has no projection_dim", v.Name)
}

func (e *textEncoder) close() error {
	if e.binding != nil {
		e.binding.Close()
	}
	return e.session.Close()
}
