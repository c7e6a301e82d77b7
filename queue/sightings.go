package queue

import "time"

// taskID names a task: ids are unique within a queue only.
type taskID struct{ queue, id string }

// sighting is how a task looked, and since when.
type sighting struct {
	held  bool   // it is active or has a lease
	lease string // as text, "" for none
	since time.Time
}

// sightings remember every task that was seen in a worker's hands. asynq
// extends the lease of a live worker's task every five seconds; the time since
// it last moved is measured here, by one clock, whatever the time that the
// lease tells.
type sightings map[taskID]sighting

// note takes in what a queue's tasks look like now.
func (s sightings) note(queue string, held map[string]string, now time.Time) {
	for id, lease := range held {
		task := taskID{queue, id}
		if before, known := s[task]; !known || !before.held || before.lease != lease {
			s[task] = sighting{held: true, lease: lease, since: now}
		}
	}
	for task, before := range s {
		if _, still := held[task.id]; task.queue == queue && before.held && !still {
			s[task] = sighting{since: now}
		}
	}
}

// suspect lists the tasks that have been held and still for quiet, or gone for
// grace.
func (s sightings) suspect(now time.Time, quiet, grace time.Duration) map[taskID]sighting {
	suspects := map[taskID]sighting{}
	for task, seen := range s {
		if age := now.Sub(seen.since); seen.held && age >= quiet || !seen.held && age >= grace {
			suspects[task] = seen
		}
	}
	return suspects
}
