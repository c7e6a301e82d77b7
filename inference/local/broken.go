package local

import (
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/imgus/worker/inference"
	"github.com/imgus/worker/job"
)

// brokenModels are those that a device could not load. It is safe for
// concurrent use.
type brokenModels struct {
	mu     sync.Mutex
	models map[string]broken
}

type broken struct {
	err   error
	files files
	at    time.Time
}

// patience is how long a broken model is not tried again though its files stay
// the same: what is wrong may lie elsewhere.
const patience = 30 * time.Second

func (b *brokenModels) add(name string, f files, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.models == nil {
		b.models = map[string]broken{}
	}
	b.models[name] = broken{err: err, files: f, at: time.Now()}
}

func (b *brokenModels) forget(name string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.models, name)
}

// still gives what was wrong with the model where it need not be tried again.
func (b *brokenModels) still(name string, f files) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if known, ok := b.models[name]; ok && known.files == f && time.Since(known.at) < patience {
		return known.err
	}
	return nil
}

// list tells the operator.
func (b *brokenModels) list() []inference.BadModel {
	b.mu.Lock()
	defer b.mu.Unlock()
	var list []inference.BadModel
	for _, name := range slices.Sorted(maps.Keys(b.models)) {
		err := b.models[name].err
		if e, ok := errors.AsType[*job.Error](err); ok && e.Err != nil {
			err = e.Err // the cause says more to an operator
		}
		list = append(list, inference.BadModel{Name: name, Reason: err.Error()})
	}
	return list
}
