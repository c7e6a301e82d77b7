package queue_test

import (
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/imgus/worker/queue"
)

// A task is suspect if and only if it looked the same for long enough.
func TestSightings(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const quiet, grace = 8 * time.Second, 60 * time.Second
		seen, now := queue.Sightings{}, time.Unix(0, 0)
		last, since := "unseen", now
		for range rapid.IntRange(1, 200).Draw(t, "passes") {
			now = now.Add(time.Duration(rapid.IntRange(1, 3).Draw(t, "seconds")) * time.Second)
			look := rapid.SampledFrom([]string{"gone", "", "1", "2", last, last, last, last, last, last}).Draw(t, "look")
			held := map[string]string{}
			switch look {
			case "unseen":
			case "gone":
				if last == "unseen" {
					look = "unseen"
				}
			default:
				held["a"] = look
			}
			if look != last {
				last, since = look, now
			}
			seen.Note("q", held, now)
			seen.Note("other", map[string]string{"a": now.String()}, now)
			limit := quiet
			if last == "gone" {
				limit = grace
			}
			suspects := seen.Suspect(now, quiet, grace)
			if want := last != "unseen" && now.Sub(since) >= limit; want != (len(suspects) == 1 && suspects[0] == "q/a") {
				t.Fatalf("%q for %v: suspects %v", last, now.Sub(since), suspects)
			}
		}
	})
}

func TestContact(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var c queue.Contact
		expect := func(when string, lost, lasted bool) {
			t.Helper()
			if c.Lost() != lost || c.Lasted(15*time.Second) != lasted {
				t.Errorf("%s: lost %v, lasted %v", when, c.Lost(), c.Lasted(15*time.Second))
			}
		}
		expect("before", false, false)
		c.Note(true)
		time.Sleep(15 * time.Second)
		expect("after a while", false, true)
		if !c.Note(false) || c.Note(false) {
			t.Error("an outage is news once")
		}
		expect("away", true, false)
		time.Sleep(time.Minute)
		if !c.Note(true) || c.Note(true) {
			t.Error("the end of an outage is news once")
		}
		expect("back", false, false)
		time.Sleep(15 * time.Second)
		expect("back for a while", false, true)
	})
}
