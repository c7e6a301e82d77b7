package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/imgus/worker/queue"
	"github.com/imgus/worker/queue/seal"
)

// seal tells whether what waits in Redis can be read there, and whether there is
// a key for each job.
func (d *doctor) seal(ctx context.Context) {
	set := sealKeys(d.config.Seal)
	keys, wrong, err := set.List()
	if err != nil {
		d.fail("seal", err, "mend the folder of seal.directory")
		return
	}
	for _, problem := range wrong {
		d.fail("seal", problem, "mend the file in seal.directory, or take it away")
	}
	if len(keys) == 0 {
		d.warn("seal", "no keys: prompts stand in Redis readable until their jobs end, and sealed jobs wait for a key", "set seal.directory (docs/wire-format.md)")
	} else {
		names := make([]string, len(keys))
		for i, key := range keys {
			names[i] = fmt.Sprintf("%s (%s)", key.ID, key.Fingerprint)
		}
		plain := "jobs that are not sealed are taken too"
		if set.Required {
			plain = "no others are taken"
		}
		with := "this client seals with none"
		if set.Key != "" {
			with = "this client seals with " + set.Key
		}
		d.ok("seal", "jobs sealed with %s can be opened; %s; %s", strings.Join(names, ", "), plain, with)
	}
	d.sealed(ctx, keys)
}

// sealed counts the jobs of each key: one that has none can be taken away.
func (d *doctor) sealed(ctx context.Context, keys []seal.Key) {
	const forManyJobs = time.Minute
	ctx, cancel := context.WithTimeout(ctx, forManyJobs)
	defer cancel()
	client, err := queue.NewClient(clientOptions(d.config))
	if err != nil {
		return // redis says so
	}
	defer client.Close()
	jobs := map[string]int{}
	for entry, err := range client.Entries(ctx) {
		if err != nil {
			if len(jobs) > 0 {
				d.warn("seal", "the jobs of each key could not be counted: "+err.Error(), "try again before a key is taken away")
			}
			return // else redis says so
		}
		jobs[entry.Key]++
	}
	delete(jobs, "")
	for _, id := range slices.Sorted(maps.Keys(jobs)) {
		if slices.ContainsFunc(keys, func(k seal.Key) bool { return k.ID == id }) {
			d.ok("seal", "%d jobs in the queues are sealed with %s", jobs[id], id)
			continue
		}
		d.warn("seal", fmt.Sprintf("%d jobs in the queues are sealed with %s, which is not here", jobs[id], id),
			"put the key into seal.directory; they wait for it. If it is lost, worker cancel --without-key ends a job")
	}
}
