package onnx

/*
#include <malloc.h>

static void trim(void) {
#ifdef __GLIBC__
	malloc_trim(0);
#endif
}
*/
import "C"

// Trim gives memory that closed sessions freed back to the system, which the C
// library would keep (malloc_trim(3)).
func Trim() { C.trim() }
