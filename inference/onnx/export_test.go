package onnx

// What tests outside need of the inside.
var (
	Classify    = classify
	CUDAOptions = Device.cudaOptions
)
