package s3

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/minio/minio-go/v7"

	"github.com/imgus/worker/storage"
)

// operation is what an error tells that was being done, and the permissions that
// it takes.
type operation struct{ doing, permission string }

var (
	// Without s3:ListBucket S3 answers for a missing object that access is denied.
	getting         = operation{"get object", "s3:GetObject, and s3:ListBucket on the bucket"}
	describing      = operation{"stat object", "s3:GetObject, and s3:ListBucket on the bucket"}
	putting         = operation{"put object", "s3:PutObject"}
	puttingIfAbsent = operation{"put object if absent", "s3:PutObject"}
	deleting        = operation{"delete object", "s3:DeleteObject"}
	removing        = operation{"delete version", "s3:DeleteObjectVersion"}
	listing         = operation{"list objects", "s3:ListBucket on the bucket"}
	listingVersions = operation{"list versions", "s3:ListBucketVersions on the bucket"}
)

// failure maps an error to the contract's. Of what the store answered it keeps
// only code and status, since messages and addresses contain the key.
func failure(ctx context.Context, op operation, err error) error {
	if err == nil {
		return nil
	}
	if cancelled := ctx.Err(); cancelled != nil {
		return fmt.Errorf("%s: %w", op.doing, cancelled)
	}
	if errors.Is(err, storage.ErrTooLarge) || errors.Is(err, storage.ErrCorrupt) {
		return fmt.Errorf("%s: %w", op.doing, err)
	}
	var answer minio.ErrorResponse
	if !errors.As(err, &answer) {
		return fmt.Errorf("%s: %w: %s", op.doing, storage.ErrUnavailable, reason(err))
	}
	switch {
	case answer.StatusCode == http.StatusPreconditionFailed:
		return fmt.Errorf("%s: %w", op.doing, storage.ErrExists)
	case answer.Code == minio.NoSuchKey && op != listing && op != listingVersions: // minio-go's word also for a 404 without a body
		return fmt.Errorf("%s: %w", op.doing, storage.ErrNotFound)
	case answer.StatusCode == http.StatusNotImplemented && op == puttingIfAbsent:
		return fmt.Errorf("%s: %w: it has no conditional writes (If-None-Match)", op.doing, storage.ErrUnfit)
	}
	text := fmt.Sprintf("%s (%d)", answer.Code, answer.StatusCode)
	if op == getting && unreadable(answer) {
		return fmt.Errorf("%s: %w: %s", op.doing, storage.ErrUnreadable, text)
	}
	if hint := hint(op, answer); hint != "" {
		text += ": " + hint
	}
	return fmt.Errorf("%s: %w: %s", op.doing, storage.ErrUnavailable, text)
}

// unreadable reports whether it is the one object that cannot be read: archived,
// or encrypted with a key that its writer alone has.
func unreadable(answer minio.ErrorResponse) bool {
	return answer.Code == "InvalidObjectState" || strings.HasPrefix(answer.Code, "KMS.") ||
		answer.Code == "InvalidRequest" && answer.StatusCode == http.StatusBadRequest
}

// hint says what an operator can do.
func hint(op operation, answer minio.ErrorResponse) string {
	switch answer.Code {
	case minio.AccessDenied:
		return "the access key needs " + op.permission
	case minio.NoSuchBucket:
		return "the bucket does not exist"
	case "InvalidAccessKeyId", "SignatureDoesNotMatch":
		return "check the access key and the secret key"
	case "RequestTimeTooSkewed":
		return "this machine's clock is wrong"
	case "PermanentRedirect", "TemporaryRedirect", "AuthorizationHeaderMalformed", minio.InvalidRegion:
		return "check the region and the endpoint"
	}
	return ""
}

// reason is the text of an error without the address of net/http, which ends in
// the key, also where minio-go puts it into words of its own. It is not wrapped,
// since our own timeout is not the caller's.
func reason(err error) string {
	at, ok := errors.AsType[*url.Error](err)
	if !ok {
		return err.Error()
	}
	text, _, _ := strings.Cut(at.Err.Error(), at.URL)
	return strings.TrimSpace(text)
}

// isConflict reports whether the store could not order a write and another
// operation at the same time.
func isConflict(err error) bool {
	answer, ok := errors.AsType[minio.ErrorResponse](err)
	return ok && answer.StatusCode == http.StatusConflict
}

// isPassing reports whether another try of a request can help.
func isPassing(err error) bool {
	answer, ok := errors.AsType[minio.ErrorResponse](err)
	return !ok || answer.StatusCode >= 500 && answer.StatusCode != http.StatusNotImplemented ||
		answer.StatusCode == http.StatusConflict || answer.StatusCode == http.StatusTooManyRequests
}
