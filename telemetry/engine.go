package telemetry

import (
	"context"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/imgus/worker/inference"
	"github.com/imgus/worker/inference/remote"
	"github.com/imgus/worker/queue"
)

// EngineSource is where an engine's figures come from; Health may be nil, of an
// engine in this process.
type EngineSource struct {
	Status func(context.Context) (inference.Status, error)
	Health func() []remote.DeviceStatus
}

// Engine gives metrics of the engine.
func (m *Metrics) Engine(source EngineSource) {
	m.registry.MustRegister(&engineCollector{health: source.Health, status: ask(source.Status), model: m.model})
}

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(name, help, labels, nil)
}

var (
	engineReady   = desc("imgus_engine_ready", "1 when the device's engine takes jobs.", "device")
	engineBad     = desc("imgus_engine_bad", "1 when the device's engine failed again and again.", "device")
	engineSlots   = desc("imgus_engine_slots", "Jobs that the device works on at once.", "device")
	engineBusy    = desc("imgus_engine_busy", "Jobs that the device works on.", "device")
	engineMemory  = desc("imgus_engine_resident_bytes", "Resident memory of the device's engine process.", "device")
	engineEnds    = desc("imgus_engine_ends_total", "Ends of engine processes, each followed by a start.", "device", "reason")
	modelLoads    = desc("imgus_model_loads_total", "Models loaded since the engine's start.", "device")
	modelUnloads  = desc("imgus_model_unloads_total", "Models that left the memory since the engine's start.", "device")
	modelMemory   = desc("imgus_model_memory_bytes", "Memory that models and the work on jobs take.", "device")
	modelBudget   = desc("imgus_model_memory_budget_bytes", "Memory that they may take; 0 is no bound.", "device")
	modelLoaded   = desc("imgus_model_loaded", "1 for each model in memory.", "model")
	modelBad      = desc("imgus_model_bad", "1 for each model that could not be loaded.", "model")
	deviceTotal   = desc("imgus_device_memory_total_bytes", "Memory of the device.", "device")
	deviceUsed    = desc("imgus_device_memory_used_bytes", "Memory of a GPU in use by all processes; of the machine, by the engine.", "device")
	deviceWorking = desc("imgus_device_utilisation_ratio", "Share of the last moments in which a GPU worked.", "device")
	deviceTemp    = desc("imgus_device_temperature_celsius", "Temperature of a GPU.", "device")
	engineScraped = desc("imgus_engine_answers", "1 when the engine answered the question for these figures.")
	engineDescs   = []*prometheus.Desc{engineReady, engineBad, engineSlots, engineBusy, engineMemory, engineEnds, modelLoads, modelUnloads, modelMemory, modelBudget, modelLoaded, modelBad, deviceTotal, deviceUsed, deviceWorking, deviceTemp, engineScraped}
	queueJobs     = desc("imgus_queue_jobs", "Jobs in a queue: pending, active, or waiting for a time.", "queue", "state")
	queueOldest   = desc("imgus_queue_oldest_seconds", "How long the job that comes next has been pending.", "queue")
	queueAnswers  = desc("imgus_queue_answers", "1 when Redis answered the question for the queues' figures.")
)

type engineCollector struct {
	health func() []remote.DeviceStatus // may be nil
	status *cached[inference.Status]
	model  func(string) string
}

func (c *engineCollector) Describe(out chan<- *prometheus.Desc) {
	for _, d := range engineDescs {
		out <- d
	}
}

func (c *engineCollector) Collect(out chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, value float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
	}
	counter := func(d *prometheus.Desc, value float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, value, labels...)
	}
	flag := func(ok bool) float64 {
		if ok {
			return 1
		}
		return 0
	}
	if c.health != nil {
		for _, d := range c.health() {
			gauge(engineReady, flag(d.State == remote.Ready), d.Device)
			gauge(engineBad, flag(d.State == remote.Bad), d.Device)
			gauge(engineSlots, float64(d.Slots), d.Device)
			gauge(engineBusy, float64(d.Busy), d.Device)
			gauge(engineMemory, float64(d.Memory), d.Device)
			for _, end := range remote.Ends() {
				counter(engineEnds, float64(d.Ends[end]), d.Device, string(end))
			}
		}
	}
	s, err := c.status.get()
	gauge(engineScraped, flag(err == nil))
	if err != nil {
		return
	}
	for _, d := range s.Devices {
		counter(modelLoads, float64(d.Loads), d.Device)
		counter(modelUnloads, float64(d.Unloads), d.Device)
		gauge(modelMemory, float64(d.ModelMemory), d.Device)
		gauge(modelBudget, float64(d.MemoryBudget), d.Device)
		gauge(deviceTotal, float64(d.MemoryTotal), d.Device)
		gauge(deviceUsed, float64(d.MemoryUsed), d.Device)
		if d.Utilisation != nil {
			gauge(deviceWorking, float64(*d.Utilisation)/100, d.Device)
		}
		if d.Temperature != nil {
			gauge(deviceTemp, float64(*d.Temperature), d.Device)
		}
	}
	loaded, bad := map[string]bool{}, map[string]bool{}
	for _, m := range s.Models {
		loaded[c.model(m.Name)] = true
	}
	for _, m := range s.BadModels {
		bad[c.model(m.Name)] = true
	}
	for name := range loaded {
		gauge(modelLoaded, 1, name)
	}
	for name := range bad {
		gauge(modelBad, 1, name)
	}
}

// Queues gives metrics of how full the queues are. depths is asked by
// scrapes, every few seconds at most.
func (m *Metrics) Queues(depths func(context.Context) ([]queue.Depth, error)) {
	m.registry.MustRegister(&queueCollector{depths: ask(depths)})
}

type queueCollector struct{ depths *cached[[]queue.Depth] }

func (c *queueCollector) Describe(out chan<- *prometheus.Desc) {
	out <- queueJobs
	out <- queueOldest
	out <- queueAnswers
}

func (c *queueCollector) Collect(out chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, value float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
	}
	depths, err := c.depths.get()
	if err != nil {
		gauge(queueAnswers, 0)
		return
	}
	gauge(queueAnswers, 1)
	for _, d := range depths {
		gauge(queueJobs, float64(d.Pending), d.Queue, "pending")
		gauge(queueJobs, float64(d.Active), d.Queue, "active")
		gauge(queueJobs, float64(d.Waiting), d.Queue, "waiting")
		gauge(queueOldest, d.Oldest.Seconds(), d.Queue)
	}
}
