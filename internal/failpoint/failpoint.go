// Package failpoint lets tests strike at a named step of a job's life. In the
// program as it is shipped Hit does nothing and costs nothing. Built with
// -tags failpoints, the program obeys the orders in IMGUS_TEST_FAILPOINTS:
//
//	before-commit=kill            end at once, as kill -9 does
//	mid-denoise=pause:5s          take five seconds
//	after-image-put#2=signal:F    create the file F, and go on when F.go exists
//
// Several are separated by semicolons. #2 means the second time that the point is
// reached, in place of the first; every order is obeyed once.
package failpoint

// Point is a step of the protocol by which a job is done.
type Point string

// The points, in the order in which a job with a photo passes them.
const (
	Dequeued          Point = "dequeued"            // asynq has given out the task
	AttemptBegun      Point = "attempt-begun"       // the job is marked as this worker's, the attempt counted
	RecordLookedUp    Point = "record-looked-up"    // and there was none
	InputFetched      Point = "input-fetched"       // photo and mask are in memory
	ModelLoaded       Point = "model-loaded"        // the engine begins with the prompt
	MidDenoise        Point = "mid-denoise"         // after a step
	Encoded           Point = "encoded"             // the images are in memory
	BeforeImagePut    Point = "before-image-put"    // each image
	AfterImagePut     Point = "after-image-put"     // each image
	BeforeCommit      Point = "before-commit"       // all images are stored, nothing is visible
	AfterCommit       Point = "after-commit"        // the record stands, whoever's it is
	BeforeInputDelete Point = "before-input-delete" // photo, mask
	AfterInputDelete  Point = "after-input-delete"  // photo, mask
	DeletionsRecorded Point = "deletions-recorded"  // deleted.json stands
	BeforeStatus      Point = "before-status"       // the final status is not published yet
	AfterStatus       Point = "after-status"        // and now it is
	BeforeAck         Point = "before-ack"          // asynq is about to be told
)

// All lists the points in order.
func All() []Point {
	return []Point{
		Dequeued, AttemptBegun, RecordLookedUp, InputFetched, ModelLoaded, MidDenoise, Encoded, BeforeImagePut, AfterImagePut,
		BeforeCommit, AfterCommit, BeforeInputDelete, AfterInputDelete, DeletionsRecorded, BeforeStatus, AfterStatus, BeforeAck,
	}
}
