package onnx

// What tests outside need of the inside.
var (
	Classify    = classify
	CUDAOptions = Device.cudaOptions
)

// The conversions between the precisions.
var (
	ToHalf   = toHalf
	FromHalf = fromHalf
)
