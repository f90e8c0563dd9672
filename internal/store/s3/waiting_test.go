package s3_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/pgmedic/pgmedic/internal/store/s3"
	"github.com/pgmedic/pgmedic/internal/testkit"
)

// lines is a log whose lines can be waited for.
type lines chan string

func (l lines) Write(p []byte) (int, error) {
	select {
	case l <- string(p):
	default: // nobody reads any more
	}
	return len(p), nil
}

// TestS3SaysWhatItWaitsFor has a server that refuses connections, and one that takes
// them and never answers.
func TestS3SaysWhatItWaitsFor(t *testing.T) {
	t.Setenv("AWS_ACCESS_KEY_ID", "k")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "s")
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	for name, tt := range map[string]struct {
		address string
		want    string
	}{
		"refused": {fmt.Sprintf("127.0.0.1:%d", testkit.ClosedPort(t)), "connection refused"},
		"silent":  {listener.Addr().String(), "does not answer"},
	} {
		t.Run(name, func(t *testing.T) {
			log := make(lines, 10)
			endpoint := "http://" + tt.address
			s, err := s3.New(t.Context(), s3.Options{
				Bucket: "b", Endpoint: endpoint, PathStyle: true, Logger: slog.New(slog.NewTextHandler(log, nil)),
			})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = s.Close() })
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error, 1)
			began := time.Now()
			go func() {
				for _, err := range s.List(ctx, "") {
					done <- err
					return
				}
				done <- nil
			}()
			select {
			case line := <-log:
				if !strings.Contains(line, tt.want) || !strings.Contains(line, endpoint) {
					t.Errorf("it says %s", line)
				}
			case err := <-done:
				t.Errorf("it ended with nothing said: %v", err)
				done <- err
			case <-time.After(time.Minute):
				t.Error("nothing is said")
			}
			t.Logf("after %s", time.Since(began).Round(time.Millisecond))
			cancel()
			if err := <-done; !errors.Is(err, context.Canceled) {
				t.Errorf("it ended with %v", err)
			}
		})
	}
}
