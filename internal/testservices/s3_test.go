package testservices

import "testing"

func TestS3ComesBack(t *testing.T) {
	s := StartS3(t)
	s.Stop()
	if err := healthy(s.Endpoint); err == nil {
		t.Fatal("a stopped server answers")
	}
	s.Start()
	if err := healthy(s.Endpoint); err != nil {
		t.Error(err)
	}
}

func TestS3OfTheEnvironment(t *testing.T) {
	t.Setenv("IMGUS_TEST_S3", "http://key:secret@192.0.2.1:9000/bucket")
	got := S3(t)
	if want := (S3Server{Endpoint: "192.0.2.1:9000", AccessKey: "key", SecretKey: "secret", Bucket: "bucket"}); *got != want {
		t.Errorf("got %+v, want %+v", *got, want)
	}
	for _, wrong := range []string{"192.0.2.1:9000", "http://192.0.2.1/bucket", "http://key:secret@192.0.2.1", "https://key:secret@192.0.2.1/b"} {
		if _, err := parseS3(wrong); err == nil {
			t.Errorf("%s is taken", wrong)
		}
	}
}
