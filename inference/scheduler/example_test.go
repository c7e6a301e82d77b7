package scheduler_test

import (
	"fmt"

	"github.com/imgus/worker/inference/scheduler"
)

func ExampleNew() {
	config, err := scheduler.ParseConfig([]byte(`{"_class_name": "PNDMScheduler", "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}`))
	if err != nil {
		panic(err)
	}
	euler, err := scheduler.New("euler", config)
	if err != nil {
		panic(err)
	}
	schedule, err := euler.Schedule(4, 1)
	if err != nil {
		panic(err)
	}
	fmt.Println(schedule.Timesteps())
	// Output:
	// [999 666 333 0]
}
