package noise_test

import (
	"fmt"

	"github.com/imgus/worker/inference/noise"
)

// The numbers are those of torch.randn(4, generator=torch.Generator().manual_seed(0)).
func ExampleGenerator() {
	x := make([]float32, 4)
	noise.New(0).Normal(x)
	fmt.Printf("%.4f\n", x)
	// Output:
	// [1.5410 -0.2934 -2.1788 0.5684]
}
