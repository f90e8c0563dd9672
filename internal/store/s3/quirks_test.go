package s3_test

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/store/s3"
	"github.com/pgmedic/pgmedic/internal/store/s3test"
)

// quirk is a server that speaks S3 in part: refuses says with what it answers to a
// request, if it does not take it.
func quirk(t *testing.T, refuses func(*http.Request) (status int, code string)) *s3.Store {
	t.Helper()
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		status, code := refuses(r)
		switch q := r.URL.Query(); {
		case code != "":
			w.WriteHeader(status)
			if r.Method != http.MethodHead {
				_, _ = io.WriteString(w, "<Error><Code>"+code+"</Code><Message>no</Message></Error>")
			}
		case r.Method == http.MethodHead:
			w.WriteHeader(http.StatusNotFound)
		case q.Has("uploads"):
			_, _ = io.WriteString(w, "<InitiateMultipartUploadResult><UploadId>u</UploadId></InitiateMultipartUploadResult>")
		case q.Has("partNumber"):
			w.Header().Set("ETag", `"e"`)
		case q.Has("uploadId"):
			_, _ = io.WriteString(w, "<CompleteMultipartUploadResult/>")
		}
	}))
	t.Cleanup(front.Close)
	return openS3(t, startS3(t, s3test.Options{}), "bucket", func(o *s3.Options) { o.Endpoint = front.URL })
}

func conditional(r *http.Request) (int, string) {
	if r.Header.Get("If-None-Match") != "" {
		return http.StatusNotImplemented, "NotImplemented"
	}
	return 0, ""
}

func summed(r *http.Request) (int, string) {
	for name := range r.Header {
		for _, prefix := range []string{"X-Amz-Checksum", "X-Amz-Sdk-Checksum", "X-Amz-Trailer"} {
			if strings.HasPrefix(name, prefix) {
				return http.StatusBadRequest, "InvalidArgument"
			}
		}
	}
	return 0, ""
}

// TestS3Quirks: what a server lacks is said, with what can be done.
func TestS3Quirks(t *testing.T) {
	sizes := []int{10, s3.MinPartSizeBytes + 1}
	put := func(s *s3.Store, size int) error {
		_, err := s.Put(t.Context(), "a/key", bytes.NewReader(noise(size)))
		return err
	}
	for _, size := range sizes {
		wantErrors(t, map[string]error{"conditional": put(quirk(t, conditional), size)}, pgmedic.KindUnreachable, "conditional writes")
		wantErrors(t, map[string]error{"checksums": put(quirk(t, summed), size)}, pgmedic.KindUnreachable, "AWS_REQUEST_CHECKSUM_CALCULATION")
	}
	t.Setenv("AWS_REQUEST_CHECKSUM_CALCULATION", "when_required")
	t.Setenv("AWS_RESPONSE_CHECKSUM_VALIDATION", "when_required")
	for _, size := range sizes {
		if err := put(quirk(t, summed), size); err != nil {
			t.Errorf("as the hint says, %d bytes: %v", size, err)
		}
	}
}
