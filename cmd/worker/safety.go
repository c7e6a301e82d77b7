package main

import (
	"fmt"

	"github.com/imgus/worker/configs"
	"github.com/imgus/worker/processor"
	"github.com/imgus/worker/safety"
)

// guard makes the configured checks; nil where there are none. What they need is
// read here, so that a worker whose checks cannot run does not start.
func guard(c configs.Safety) (processor.Guard, error) {
	o := safety.Options{Prompt: safety.Policy(c.Prompt.Policy)}
	if o.Prompt == safety.Off {
		return nil, nil
	}
	var err error
	if o.List, err = safety.ReadList(c.Prompt.List); err != nil {
		return nil, &exitError{status: exitConfig, err: fmt.Errorf("safety.prompt.list: %w", err)}
	}
	return safety.New(o), nil
}
