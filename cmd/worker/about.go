package main

import (
	"github.com/imgus/worker/configs"
	"github.com/imgus/worker/inference/remote"
	"github.com/imgus/worker/models"
	"github.com/imgus/worker/queue"
)

// about is what the worker tells others of its devices and models. The models
// are looked up anew each time, since they may change while it runs.
func (a *app) about(c configs.Config, engine engine) func() queue.About {
	return func() queue.About {
		var about queue.About
		if catalogue, err := catalogue(c.Models.Directory); err == nil {
			about.Models = manifests(catalogue)
		}
		if pool, ok := engine.(*remote.Pool); ok {
			for _, d := range pool.Health() {
				about.Devices = append(about.Devices, queue.Device{Name: d.Device, State: string(d.State), Busy: d.Busy, Slots: d.Slots, Models: d.Models})
			}
			return about
		}
		for _, name := range engine.Devices() {
			about.Devices = append(about.Devices, queue.Device{Name: name, State: "ready", Slots: 1})
		}
		return about
	}
}

// manifests are the digests of the catalogue's models by name, as their
// manifests have them; a model whose manifest has none is known by its name
// alone.
func manifests(c *models.Catalogue) map[string]string {
	entries, err := c.List()
	if err != nil {
		return nil
	}
	out := map[string]string{}
	for _, e := range entries {
		if e.Err == nil {
			out[e.Name] = e.Model.Manifest.Digest()
		}
	}
	return out
}
