package s3_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/pgmedic/pgmedic/internal/store/s3"
	"github.com/pgmedic/pgmedic/internal/store/s3test"
)

// TestS3ManyKeys lists more keys than a server gives in one answer.
func TestS3ManyKeys(t *testing.T) {
	server := s3test.Start(t, s3test.Options{})
	server.Setenv(t)
	o := server.Options(server.Bucket())
	o.Prefix = "pgmedic"
	s, err := s3.New(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	const keys = 1_030
	name := func(n int) string { return fmt.Sprintf("main/%02d/object-%06d", n/100, n) }
	var putters sync.WaitGroup
	for w := range 8 {
		putters.Go(func() {
			for n := w; n < keys; n += 8 {
				if _, err := s.Put(t.Context(), name(n), strings.NewReader("x")); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	putters.Wait()
	n := 0
	for o, err := range s.List(t.Context(), "main/") {
		if err != nil {
			t.Fatal(err)
		}
		if o.Key != name(n) || o.SizeBytes != 1 {
			t.Fatalf("key %d is %s of %d bytes, want %s", n, o.Key, o.SizeBytes, name(n))
		}
		n++
	}
	if n != keys {
		t.Errorf("%d keys, want %d", n, keys)
	}
}
