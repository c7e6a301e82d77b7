// Package chaos holds the worker to its promise that no job is lost, none is
// visible twice and nothing is left over, through every crash and outage. It
// runs the real program, built with failpoints, against a real Redis and a real
// S3 server.
//
// The matrix strikes at every named step of a job's life in every way, one
// scenario each. The chaos run kills workers and Redis at random moments from a
// seed. Both end with the auditor's verdict.
package chaos
