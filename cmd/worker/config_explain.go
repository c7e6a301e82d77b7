package main

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"text/tabwriter"

	"github.com/imgus/worker/configs"
	"github.com/imgus/worker/inference/local"
)

// choice is what the worker makes of a value that it chooses by itself.
type choice struct {
	chosen, why string
}

// explained is a setting with what comes of it.
type explained struct {
	configs.Setting
	// Live: a change applies to a running worker.
	Live   bool   `json:"live"`
	Chosen string `json:"chosen,omitempty"`
	Why    string `json:"why,omitempty"`
}

// explain lists every key, and after them what is chosen that has no key.
func (a *app) explain(ctx context.Context, c configs.Config, sources configs.Sources) error {
	choices := a.choices(ctx, c)
	var rows []explained
	for _, s := range configs.Show(c, sources) {
		choice := choices[s.Key]
		rows = append(rows, explained{Setting: s, Live: configs.Live(s.Key), Chosen: choice.chosen, Why: choice.why})
	}
	for _, key := range []string{"(slots)", "(batch)"} {
		rows = append(rows, explained{Setting: configs.Setting{Key: key, Source: "automatic"}, Chosen: choices[key].chosen, Why: choices[key].why})
	}
	table := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
	if !a.json {
		fmt.Fprintln(table, "KEY\tVALUE\tFROM\tCHANGE\tCOMES TO")
	}
	for _, r := range rows {
		if a.json {
			if err := a.print(r); err != nil {
				return err
			}
			continue
		}
		change, comes := "restart", ""
		if r.Live {
			change = "live"
		}
		if r.Why != "" {
			comes = r.Chosen + ": " + r.Why
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\n", r.Key, r.Value, r.Source, change, comes)
	}
	return table.Flush()
}

// choices starts the engine, which alone knows the devices, and asks it.
func (a *app) choices(ctx context.Context, c configs.Config) map[string]choice {
	choices := map[string]choice{
		"(batch)": {"all images of a job at once", "fewer where the memory budget, or what was measured, has no room for them"},
	}
	if c.Log.Format == "auto" {
		why := "standard error is no terminal"
		if isTerminal(a.stderr) {
			why = "standard error is a terminal"
		}
		choices["log.format"] = choice{format(c.Log.Format, a.stderr), why}
	}
	if c.Engine.Threads == 0 {
		n, why := local.Threads(0)
		choices["engine.threads"] = choice{fmt.Sprint(n), why}
	}
	library, err := findLibrary(c.Engine.Library)
	if err != nil {
		unknown := choice{"unknown", err.Error()}
		choices["engine.library"], choices["engine.devices"], choices["engine.memory_budget"], choices["(slots)"] = unknown, unknown, unknown, unknown
		return choices
	}
	if c.Engine.Library == "" {
		choices["engine.library"] = choice{library, "the first of: beside the program, the checkout's .cache, /usr/local/lib, /usr/lib"}
	}
	silent := slog.New(slog.DiscardHandler)
	devices := a.isolatedDevices(ctx, c.Engine.Devices, library, silent)
	if c.Engine.Devices.Auto() {
		why := "every GPU that ONNX Runtime's library can use"
		if len(devices) == 1 && devices[0] == "cpu" {
			why = "no GPU can be used; worker doctor says why"
		}
		choices["engine.devices"] = choice{strings.Join(devices, ","), why}
	}
	c.Engine.Devices, c.Engine.Library = devices, library
	engine, err := a.openPool(ctx, c, "", silent)
	if err != nil {
		unknown := choice{"unknown", err.Error()}
		choices["engine.memory_budget"], choices["(slots)"] = unknown, unknown
		return choices
	}
	defer engine.Close()
	choices["(slots)"] = choice{fmt.Sprint(engine.Slots()), "a device works on one job at a time, and a worker takes no more jobs than it has devices"}
	if status, err := engine.Status(ctx); err == nil {
		var budgets, reasons []string
		for _, d := range status.Devices {
			budgets, reasons = append(budgets, fmt.Sprintf("%s %.1f GiB", d.Device, float64(d.MemoryBudget)/(1<<30))), append(reasons, d.MemoryBudgetReason)
		}
		choices["engine.memory_budget"] = choice{strings.Join(budgets, ", "), strings.Join(reasons, ", ")}
	}
	return choices
}
