package scheduler

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
)

// Config is a model's scheduler_config.json. A nil field is absent, or null: the class that runs has its own default.
type Config struct {
	ClassName string `json:"_class_name"`

	NumTrainTimesteps  *int      `json:"num_train_timesteps"`
	BetaStart          *float64  `json:"beta_start"`
	BetaEnd            *float64  `json:"beta_end"`
	BetaSchedule       *string   `json:"beta_schedule"`
	TrainedBetas       []float64 `json:"trained_betas"`
	RescaleBetasToZero *bool     `json:"rescale_betas_zero_snr"`
	Prediction         *string   `json:"prediction_type"`
	VarianceType       *string   `json:"variance_type"`

	TimestepSpacing *string `json:"timestep_spacing"`
	TimestepType    *string `json:"timestep_type"`
	StepsOffset     *int    `json:"steps_offset"`

	UseKarrasSigmas      *bool    `json:"use_karras_sigmas"`
	UseExponentialSigmas *bool    `json:"use_exponential_sigmas"`
	UseBetaSigmas        *bool    `json:"use_beta_sigmas"`
	UseLuLambdas         *bool    `json:"use_lu_lambdas"`
	UseFlowSigmas        *bool    `json:"use_flow_sigmas"`
	SigmaMin             *float64 `json:"sigma_min"`
	SigmaMax             *float64 `json:"sigma_max"`
	FinalSigmasType      *string  `json:"final_sigmas_type"`
	InterpolationType    *string  `json:"interpolation_type"`

	ClipSample               *bool    `json:"clip_sample"`
	ClipSampleRange          *float64 `json:"clip_sample_range"`
	Thresholding             *bool    `json:"thresholding"`
	DynamicThresholdingRatio *float64 `json:"dynamic_thresholding_ratio"`
	SampleMaxValue           *float64 `json:"sample_max_value"`

	SetAlphaToOne          *bool    `json:"set_alpha_to_one"`
	SkipPRKSteps           *bool    `json:"skip_prk_steps"`
	OriginalInferenceSteps *int     `json:"original_inference_steps"`
	TimestepScaling        *float64 `json:"timestep_scaling"`

	SolverOrder      *int      `json:"solver_order"`
	SolverType       *string   `json:"solver_type"`
	AlgorithmType    *string   `json:"algorithm_type"`
	LowerOrderFinal  *bool     `json:"lower_order_final"`
	EulerAtFinal     *bool     `json:"euler_at_final"`
	LambdaMinClipped *infinite `json:"lambda_min_clipped"`
	PredictX0        *bool     `json:"predict_x0"`
	DisableCorrector []int     `json:"disable_corrector"`

	// ForeignPipeline is not in the file: the model's pipeline is not the latent consistency models' own, which alone
	// gives the strength of image-to-image to LCMScheduler.
	ForeignPipeline bool `json:"-"`
	// Eta is DDIM's share of random noise, 0 to 1. The reference takes it as an argument of the step, never from the
	// file, and its pipelines leave it 0.
	Eta *float64 `json:"-"`
}

// infinite is a number that Python's json may have written as -Infinity.
type infinite float64

func (f *infinite) UnmarshalJSON(data []byte) error {
	switch string(data) {
	case "null":
		return nil
	case `"-Infinity"`:
		*f = infinite(math.Inf(-1))
		return nil
	}
	return json.Unmarshal(data, (*float64)(f))
}

// ParseConfig reads a scheduler_config.json. Unknown keys are ignored, a known key of another type is an error.
func ParseConfig(data []byte) (Config, error) {
	var c Config
	if err := json.Unmarshal(quoteInfinity(data), &c); err != nil {
		return Config{}, fmt.Errorf("parse scheduler config: %w", err)
	}
	return c, nil
}

// quoteInfinity makes JSON of what Python writes for float("-inf"): the bare word -Infinity, the default of
// lambda_min_clipped in the DPM solvers.
func quoteInfinity(data []byte) []byte {
	word := []byte("-Infinity")
	if !bytes.Contains(data, word) {
		return data
	}
	out := make([]byte, 0, len(data)+8)
	quoted := false
	for i := 0; i < len(data); i++ {
		switch {
		case quoted && data[i] == '\\' && i+1 < len(data):
			out = append(out, data[i])
			i++
		case data[i] == '"':
			quoted = !quoted
		case !quoted && bytes.HasPrefix(data[i:], word):
			out = append(out, `"-Infinity"`...)
			i += len(word) - 1
			continue
		}
		out = append(out, data[i])
	}
	return out
}

// PredictionType is what the model predicts: "epsilon" (the default), "v_prediction" or "sample".
func (c Config) PredictionType() string { return or(c.Prediction, "epsilon") }

// or returns *p, or def where p is nil.
func or[T any](p *T, def T) T {
	if p == nil {
		return def
	}
	return *p
}
