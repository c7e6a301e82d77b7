package main

import (
	"context"

	"github.com/imgus/worker/configs"
	"github.com/imgus/worker/inference"
	"github.com/imgus/worker/models"
	"github.com/imgus/worker/processor"
	"github.com/imgus/worker/safety"
)

// safetyChecks are the configured safety checks and what they need.
type safetyChecks struct {
	options    safety.Options
	classifier *models.Classifier
}

// openChecks reads what the configured checks need, so that a worker whose checks
// cannot run does not start. The error is a *configs.Problems.
func openChecks(c configs.Safety) (safetyChecks, error) {
	k := safetyChecks{options: safety.Options{
		Prompt: safety.Policy(c.Prompt.Policy), Input: safety.Policy(c.Image.Input), Output: safety.Policy(c.Image.Output),
	}}
	wrong := func(key string, err error) (safetyChecks, error) {
		return k, &configs.Problems{List: []configs.Problem{{Key: key, Message: err.Error()}}}
	}
	k, err := k.withPrompt(c.Prompt)
	if err != nil {
		return k, err
	}
	if folder := classifierFolder(c); folder != "" {
		if k.classifier, err = models.OpenClassifier(folder); err != nil {
			return wrong("safety.image.model", err)
		}
		if _, err = k.classifier.Read(); err != nil {
			return wrong("safety.image.model", err)
		}
	}
	return k, nil
}

// withPrompt are the checks with another one of prompts. The error is a
// *configs.Problems.
func (k safetyChecks) withPrompt(c configs.SafetyPrompt) (safetyChecks, error) {
	k.options.Prompt, k.options.List = safety.Policy(c.Policy), nil
	if k.options.Prompt == safety.Off {
		return k, nil
	}
	list, err := safety.ReadList(c.List)
	if err != nil {
		return k, &configs.Problems{List: []configs.Problem{{Key: "safety.prompt.list", Message: err.Error()}}}
	}
	k.options.List = list
	return k, nil
}

// classifierFolder is where the classifier of pictures is; "" if none is used.
func classifierFolder(c configs.Safety) string {
	if c.Image.Input == string(safety.Off) && c.Image.Output == string(safety.Off) {
		return ""
	}
	return c.Image.Model
}

// openClassifier opens the classifier in a folder; none if it is "".
func openClassifier(folder string) (*models.Classifier, error) {
	if folder == "" {
		return nil, nil
	}
	return models.OpenClassifier(folder)
}

// guard runs the checks; it is nil where there are none.
func (k safetyChecks) guard(engine inference.Classifier) processor.Guard {
	o := k.options
	if o.Prompt == safety.Off && k.classifier == nil {
		return nil
	}
	if k.classifier != nil {
		o.Classifier, o.Thresholds = engine, k.classifier.Thresholds
	}
	return safety.New(o)
}

// safety tries what the checks need.
func (d *doctor) safety(context.Context) {
	checks, err := openChecks(d.config.Safety)
	if err != nil {
		d.fail("safety", err, "see docs/safety.md; while a check cannot run, the worker does not start")
		return
	}
	o := checks.options
	d.ok("safety", "prompts are %s, photos %s, pictures %s", verb(o.Prompt), verb(o.Input), verb(o.Output))
}

// verb says what a policy does.
func verb(p safety.Policy) string {
	return map[safety.Policy]string{safety.Off: "not checked", safety.Flag: "checked and flagged", safety.Block: "checked and refused"}[p]
}
