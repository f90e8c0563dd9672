package s3_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"time"

	toxiproxy "github.com/Shopify/toxiproxy/v2"
	"github.com/rs/zerolog"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/awsenv"
	"github.com/pgmedic/pgmedic/internal/store"
	"github.com/pgmedic/pgmedic/internal/store/s3"
	"github.com/pgmedic/pgmedic/internal/store/s3test"
	"github.com/pgmedic/pgmedic/internal/testkit"
)

// noise returns n bytes that differ everywhere.
func noise(n int) []byte {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{1}).Read(b)
	return b
}

func readAll(ctx context.Context, s store.Store, key string) ([]byte, error) {
	r, err := s.Open(ctx, key, 0, -1)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(r)
}

// everyCall returns the error of each method.
func everyCall(ctx context.Context, s store.Store) map[string]error {
	errs := map[string]error{"Delete": s.Delete(ctx, "a/key")}
	_, errs["small Put"] = s.Put(ctx, "a/key", strings.NewReader("x"))
	_, errs["large Put"] = s.Put(ctx, "a/key", bytes.NewReader(noise(s3.MinPartSizeBytes+1)))
	_, errs["Open"] = s.Open(ctx, "a/key", 0, -1)
	_, errs["Stat"] = s.Stat(ctx, "a/key")
	for _, err := range s.List(ctx, "a/") {
		errs["List"] = err
	}
	return errs
}

// wantErrors checks that each method failed with the kind, a hint, and without
// a secret.
func wantErrors(t *testing.T, errs map[string]error, kind pgmedic.Kind, hint string, secrets ...string) {
	t.Helper()
	for method, err := range errs {
		if err == nil || pgmedic.KindOf(err) != kind || !strings.Contains(pgmedic.HintOf(err), hint) {
			t.Errorf("%s: %v (%v, %q)", method, err, pgmedic.KindOf(err), pgmedic.HintOf(err))
			continue
		}
		for _, secret := range secrets {
			if strings.Contains(err.Error()+pgmedic.HintOf(err), secret) {
				t.Errorf("%s: a secret is in the error: %v", method, err)
			}
		}
	}
}

func TestS3WrongCredentials(t *testing.T) {
	server := startS3(t, s3test.Options{})
	bucket := server.Bucket()
	t.Run("secret", func(t *testing.T) {
		t.Setenv("AWS_SECRET_ACCESS_KEY", "of-someone-else")
		wantErrors(t, everyCall(t.Context(), openS3(t, server, bucket)), pgmedic.KindUnreachable, "credentials", "of-someone-else", server.SecretKey)
	})
	t.Run("key", func(t *testing.T) {
		t.Setenv("AWS_ACCESS_KEY_ID", "nobody")
		wantErrors(t, everyCall(t.Context(), openS3(t, server, bucket)), pgmedic.KindUnreachable, "credentials", server.SecretKey)
	})
	t.Run("none", func(t *testing.T) {
		t.Setenv("AWS_ACCESS_KEY_ID", "")
		t.Setenv("AWS_SECRET_ACCESS_KEY", "")
		s := openS3(t, server, bucket)
		wantErrors(t, everyCall(t.Context(), s), pgmedic.KindUnreachable, "AWS_ACCESS_KEY_ID")
		var retrieve *awsenv.RetrieveError
		_, err := s.Stat(t.Context(), "a")
		if !errors.As(err, &retrieve) || !strings.HasSuffix(err.Error(), ": no AWS credentials were found") {
			t.Errorf("without credentials: %v", err)
		}
	})
	if found := server.Objects(bucket); len(found) > 0 {
		t.Errorf("stored without the right to: %q", found)
	}
}

func TestS3CredentialsExpireMidway(t *testing.T) {
	server := startS3(t, s3test.Options{})
	bucket, secret := server.Bucket(), server.SecretKey
	s := openS3(t, server, bucket)
	expire := readerFunc(func([]byte) (int, error) {
		server.Restart("other", "othersecret")
		return 0, nil
	})
	data := noise(3 * s3.MinPartSizeBytes)
	r := io.MultiReader(bytes.NewReader(data), once(expire), bytes.NewReader(data))
	_, err := s.Put(t.Context(), "a/key", r)
	wantErrors(t, map[string]error{"Put": err}, pgmedic.KindUnreachable, "credentials", secret, "othersecret")
	if found := server.Objects(bucket); len(found) > 0 {
		t.Errorf("stored with credentials that expired: %q", found)
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// once is a reader that reads r one time.
func once(r io.Reader) io.Reader {
	done := false
	return readerFunc(func(p []byte) (int, error) {
		if done {
			return 0, io.EOF
		}
		done = true
		return r.Read(p)
	})
}

func TestS3NoSuchBucket(t *testing.T) {
	server := startS3(t, s3test.Options{})
	wantErrors(t, everyCall(t.Context(), openS3(t, server, "no-such-bucket")), pgmedic.KindUsage, "bucket")
}

func TestS3Unreachable(t *testing.T) {
	testkit.OnlyAll(t, "it takes long")
	server := startS3(t, s3test.Options{})
	bucket := server.Bucket()
	server.Stop()
	s := openS3(t, server, bucket, func(o *s3.Options) { o.MaxAttempts = 2 })
	wantErrors(t, everyCall(t.Context(), s), pgmedic.KindUnreachable, "endpoint", server.SecretKey)

	// Waiting before another attempt ends with ctx.
	s = openS3(t, server, bucket, func(o *s3.Options) { o.MaxAttempts = 50 })
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	began := time.Now()
	_, err := s.Stat(ctx, "a/key")
	if took := time.Since(began); !errors.Is(err, context.DeadlineExceeded) || pgmedic.KindOf(err) != pgmedic.KindInterrupted || took > 30*time.Second {
		t.Errorf("Stat: %v after %s", err, took)
	}
}

func TestS3TLS(t *testing.T) {
	server := startS3(t, s3test.Options{TLS: true})
	bucket := server.Bucket()
	s, data := openS3(t, server, bucket), noise(2*s3.MinPartSizeBytes)
	if _, err := s.Put(t.Context(), "a/key", bytes.NewReader(data)); err != nil {
		t.Fatal(err)
	}
	if got, err := readAll(t.Context(), s, "a/key"); err != nil || !bytes.Equal(got, data) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	s = openS3(t, server, bucket, func(o *s3.Options) { o.CACertFile, o.MaxAttempts = "", 1 })
	wantErrors(t, everyCall(t.Context(), s), pgmedic.KindUnreachable, "backup.s3.ca_file")
}

// TestS3LeavesNothing ends Puts in every way but success. Each has a key of its own: a part that
// versitygw had whole when it was cut off, and stores once the upload is aborted, it lists as an
// upload as soon as there is another one of that key.
func TestS3LeavesNothing(t *testing.T) {
	server := startS3(t, s3test.Options{})
	bucket := server.Bucket()
	s := openS3(t, server, bucket)
	died := errors.New("the dump died")
	keys := 0
	key := func() string {
		keys++
		return fmt.Sprintf("a/key%d", keys)
	}
	for _, size := range []int{0, 1000, 6 << 20, 12 << 20, 40 << 20} {
		_, err := s.Put(t.Context(), key(), io.MultiReader(bytes.NewReader(noise(size)), iotest.ErrReader(died)))
		if !errors.Is(err, died) {
			t.Errorf("reader that dies after %d bytes: %v", size, err)
		}
		ctx, cancel := context.WithCancelCause(t.Context())
		_, err = s.Put(ctx, key(), io.MultiReader(bytes.NewReader(noise(size)), readerFunc(func(p []byte) (int, error) {
			cancel(died)
			return len(p), nil
		})))
		if !errors.Is(err, died) || pgmedic.KindOf(err) != pgmedic.KindInterrupted {
			t.Errorf("context that ends after %d bytes: %v", size, err)
		}
		func() {
			defer func() { _ = recover() }()
			_, _ = s.Put(t.Context(), key(), io.MultiReader(bytes.NewReader(noise(size)), readerFunc(func([]byte) (int, error) { panic("reader") })))
			t.Error("the panic was swallowed")
		}()
	}
	if objects, uploads := server.Objects(bucket), server.Uploads(bucket); len(objects)+len(uploads) > 0 {
		t.Errorf("left: objects %q, uploads %q", objects, uploads)
	}
}

func TestS3PartsRace(t *testing.T) {
	server := startS3(t, s3test.Options{})
	bucket := server.Bucket()
	s := openS3(t, server, bucket)
	const rivals = 16
	var errs [rivals]error
	var wg sync.WaitGroup
	for i := range rivals {
		wg.Go(func() {
			_, errs[i] = s.Put(t.Context(), "a/key", bytes.NewReader(noise(s3.MinPartSizeBytes+i)))
		})
	}
	wg.Wait()
	winner := -1
	for i, err := range errs {
		switch {
		case err == nil && winner >= 0:
			t.Errorf("%d and %d both succeeded", winner, i)
		case err == nil:
			winner = i
		case !errors.Is(err, store.ErrExists):
			t.Errorf("%d: %v", i, err)
		}
	}
	if o, err := s.Stat(t.Context(), "a/key"); winner < 0 || err != nil || o.SizeBytes != int64(s3.MinPartSizeBytes+winner) {
		t.Errorf("%d succeeded, the store has %+v (%v)", winner, o, err)
	}
	if uploads := server.Uploads(bucket); len(uploads) > 0 {
		t.Errorf("pending: %q", uploads)
	}
}

// proxied returns a toxiproxy before the server, and the store through it.
func proxied(t *testing.T, server *s3test.Server, bucket string, attempts int) (*toxiproxy.Proxy, *s3.Store) {
	t.Helper()
	api := toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.Nop())
	proxy := toxiproxy.NewProxy(api, "s3", "127.0.0.1:0", strings.TrimPrefix(server.Endpoint, "http://"))
	if err := proxy.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(proxy.Stop)
	return proxy, openS3(t, server, bucket, func(o *s3.Options) { o.Endpoint, o.MaxAttempts = "http://"+proxy.Listen, attempts })
}

func poison(t *testing.T, proxy *toxiproxy.Proxy, toxic string) {
	t.Helper()
	if _, err := proxy.Toxics.AddToxicJson(strings.NewReader(toxic)); err != nil {
		t.Fatal(err)
	}
}

func TestS3UploadCut(t *testing.T) {
	testkit.OnlyAll(t, "it takes long")
	server := startS3(t, s3test.Options{})
	bucket := server.Bucket()
	data := noise(32 << 20)

	proxy, s := proxied(t, server, bucket, 2)
	cut := readerFunc(func([]byte) (int, error) { proxy.Stop(); return 0, nil })
	_, err := s.Put(t.Context(), "a/key", io.MultiReader(bytes.NewReader(data[:20<<20]), once(cut), bytes.NewReader(data[20<<20:])))
	wantErrors(t, map[string]error{"Put": err}, pgmedic.KindUnreachable, "")
	if objects := server.Objects(bucket); len(objects) > 0 {
		t.Errorf("an upload that was cut left %q", objects)
	}
	if err := proxy.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Put(t.Context(), "a/key", bytes.NewReader(data)); err != nil {
		t.Errorf("after the network came back: %v", err)
	}
	// A connection that dies now and then only costs time.
	proxy, s = proxied(t, server, bucket, 6)
	poison(t, proxy, `{"name":"cut","type":"limit_data","stream":"upstream","attributes":{"bytes":9000000}}`)
	if _, err := s.Put(t.Context(), "a/other", bytes.NewReader(data)); err != nil {
		t.Errorf("connections that die after 9 MB: %v", err)
	}
	if got, err := readAll(t.Context(), openS3(t, server, bucket), "a/other"); err != nil || !bytes.Equal(got, data) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
}

func TestS3DownloadCut(t *testing.T) {
	testkit.OnlyAll(t, "it takes long")
	server := startS3(t, s3test.Options{})
	bucket := server.Bucket()
	data := noise(32 << 20)
	if _, err := openS3(t, server, bucket).Put(t.Context(), "a/key", bytes.NewReader(data)); err != nil {
		t.Fatal(err)
	}
	t.Run("now and then", func(t *testing.T) {
		proxy, s := proxied(t, server, bucket, 2)
		poison(t, proxy, `{"name":"cut","type":"limit_data","stream":"downstream","attributes":{"bytes":3000000}}`)
		got, err := readAll(t.Context(), s, "a/key")
		if err != nil || !bytes.Equal(got, data) {
			t.Errorf("%d of %d bytes, %v", len(got), len(data), err)
		}
		r, err := s.Open(t.Context(), "a/key", 1000, 20_000_000)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, data[1000:20_001_000]) {
			t.Errorf("range: %d bytes, %v", len(got), err)
		}
	})
	t.Run("always", func(t *testing.T) {
		proxy, s := proxied(t, server, bucket, 2)
		poison(t, proxy, `{"name":"cut","type":"limit_data","stream":"downstream","attributes":{"bytes":20000}}`)
		got, err := readAll(t.Context(), s, "a/key")
		if !errors.Is(err, io.ErrUnexpectedEOF) || pgmedic.KindOf(err) != pgmedic.KindUnreachable || len(got) == len(data) {
			t.Errorf("%d bytes, %v", len(got), err)
		}
	})
	t.Run("for good", func(t *testing.T) {
		proxy, s := proxied(t, server, bucket, 1)
		r, err := s.Open(t.Context(), "a/key", 0, -1)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		if _, err := io.CopyN(io.Discard, r, 1000); err != nil {
			t.Fatal(err)
		}
		proxy.Stop()
		n, err := io.Copy(io.Discard, r)
		if !errors.Is(err, io.ErrUnexpectedEOF) || pgmedic.KindOf(err) != pgmedic.KindUnreachable || n+1000 >= int64(len(data)) {
			t.Errorf("%d bytes, %v", n+1000, err)
		}
	})
	t.Run("another object", func(t *testing.T) {
		proxy, s := proxied(t, server, bucket, 2)
		poison(t, proxy, `{"name":"cut","type":"limit_data","stream":"downstream","attributes":{"bytes":3000000}}`)
		r, err := s.Open(t.Context(), "a/key", 0, -1)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		direct := openS3(t, server, bucket)
		if err := direct.Delete(t.Context(), "a/key"); err != nil {
			t.Fatal(err)
		}
		if _, err := direct.Put(t.Context(), "a/key", bytes.NewReader(make([]byte, len(data)))); err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(r)
		if err == nil || pgmedic.KindOf(err) != pgmedic.KindUnreachable || !bytes.HasPrefix(data, got) {
			t.Errorf("%d bytes, %v", len(got), err)
		}
	})
}

// forgetful passes requests on and, when told, loses the answer of one.
func forgetful(t *testing.T, server *s3test.Server, lose func(*http.Request) bool) *httptest.Server {
	t.Helper()
	to, err := url.Parse(server.Endpoint)
	if err != nil {
		t.Fatal(err)
	}
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(to); r.Out.Host = r.In.Host },
		ModifyResponse: func(answer *http.Response) error {
			if lose(answer.Request) {
				panic(http.ErrAbortHandler)
			}
			return nil
		},
		ErrorHandler: func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) },
	}
	front := httptest.NewServer(proxy)
	t.Cleanup(front.Close)
	return front
}

// TestS3AnswerLost loses the answer to each commit, once and for ever.
func TestS3AnswerLost(t *testing.T) {
	server := startS3(t, s3test.Options{})
	for name, size := range map[string]int{"whole": 1000, "parts": 2*s3.MinPartSizeBytes + 1} {
		for _, times := range []int32{1, 1000} {
			t.Run(name, func(t *testing.T) {
				var lost atomic.Int32
				front := forgetful(t, server, func(r *http.Request) bool {
					commit := r.Method == http.MethodPost && r.URL.Query().Has("uploadId") || r.Method == http.MethodPut && !r.URL.Query().Has("partNumber")
					return commit && lost.Add(1) <= times
				})
				bucket := server.Bucket()
				s := openS3(t, server, bucket, func(o *s3.Options) { o.Endpoint, o.MaxAttempts = front.URL, 2 })
				data := noise(size)
				o, err := s.Put(t.Context(), "a/key", bytes.NewReader(data))
				if err != nil || o.SizeBytes != int64(size) || lost.Load() == 0 {
					t.Errorf("%+v, %v, lost %d answers", o, err, lost.Load())
				}
				if got, err := readAll(t.Context(), s, "a/key"); err != nil || !bytes.Equal(got, data) {
					t.Errorf("%d bytes, %v", len(got), err)
				}
				// The same bytes of another Put are another's.
				lost.Store(times)
				if _, err := s.Put(t.Context(), "a/key", bytes.NewReader(data)); !errors.Is(err, store.ErrExists) {
					t.Errorf("second Put: %v", err)
				}
				if uploads := server.Uploads(bucket); len(uploads) > 0 {
					t.Errorf("pending: %q", uploads)
				}
			})
		}
	}
}

// TestS3InterruptedAtTheBeginning ends the context while the server makes an upload of parts:
// what its answer names is aborted.
func TestS3InterruptedAtTheBeginning(t *testing.T) {
	server := startS3(t, s3test.Options{})
	ctx, cancel := context.WithCancelCause(t.Context())
	died := errors.New("the dump died")
	var made atomic.Int32
	front := forgetful(t, server, func(r *http.Request) bool {
		if r.Method == http.MethodPost && r.URL.Query().Has("uploads") {
			made.Add(1)
			cancel(died)
		}
		return false
	})
	bucket := server.Bucket()
	s := openS3(t, server, bucket, func(o *s3.Options) { o.Endpoint = front.URL })
	_, err := s.Put(ctx, "a/key", bytes.NewReader(noise(2*s3.MinPartSizeBytes+1)))
	if !errors.Is(err, died) || pgmedic.KindOf(err) != pgmedic.KindInterrupted || made.Load() != 1 {
		t.Errorf("%v; the server made %d uploads", err, made.Load())
	}
	if objects, uploads := server.Objects(bucket), server.Uploads(bucket); len(objects)+len(uploads) > 0 {
		t.Errorf("left: objects %q, uploads %q", objects, uploads)
	}
}

// TestS3RefusalUnheard cuts the connection of each request that carries data,
// as a server does that refuses it unread: because the key is taken, and because
// the credentials have expired.
func TestS3RefusalUnheard(t *testing.T) {
	server := startS3(t, s3test.Options{})
	front := forgetful(t, server, func(r *http.Request) bool { return r.Method == http.MethodPut })
	secret := server.SecretKey
	bucket := server.Bucket()
	s := openS3(t, server, bucket, func(o *s3.Options) { o.Endpoint, o.MaxAttempts = front.URL, 2 })
	if _, err := openS3(t, server, bucket).Put(t.Context(), "taken", strings.NewReader("another's")); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Put(t.Context(), "taken", strings.NewReader("ours")); !errors.Is(err, store.ErrExists) {
		t.Errorf("Put of a key that is taken: %v", err)
	}
	expire := readerFunc(func([]byte) (int, error) {
		server.Restart("other", "othersecret")
		return 0, nil
	})
	data := noise(s3.MinPartSizeBytes)
	_, err := s.Put(t.Context(), "a/key", io.MultiReader(bytes.NewReader(data), once(expire), bytes.NewReader(data)))
	wantErrors(t, map[string]error{"Put": err}, pgmedic.KindUnreachable, "credentials", secret, "othersecret")
}

// TestS3Headers looks at what requests ask for.
func TestS3Headers(t *testing.T) {
	server := startS3(t, s3test.Options{})
	seen := map[string]http.Header{}
	var mu sync.Mutex
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		_, _ = io.Copy(io.Discard, r.Body)
		switch q := r.URL.Query(); {
		case r.Method == http.MethodHead:
			w.WriteHeader(http.StatusNotFound)
		case q.Has("uploads"):
			seen["create"] = r.Header
			_, _ = io.WriteString(w, "<InitiateMultipartUploadResult><UploadId>u</UploadId></InitiateMultipartUploadResult>")
		case q.Has("partNumber"):
			w.Header().Set("ETag", `"e"`)
		case q.Has("uploadId"):
			seen["complete"] = r.Header
			_, _ = io.WriteString(w, "<CompleteMultipartUploadResult/>")
		case r.Method == http.MethodPut:
			seen["put"] = r.Header
		}
	}))
	defer front.Close()
	s := openS3(t, server, "bucket", func(o *s3.Options) {
		o.Endpoint, o.StorageClass, o.ServerSideEncryption, o.KMSKeyID = front.URL, "STANDARD_IA", "aws:kms", "alias/backups"
	})
	for _, size := range []int{10, s3.MinPartSizeBytes + 1} {
		if _, err := s.Put(t.Context(), "a/key", bytes.NewReader(noise(size))); err != nil {
			t.Fatal(err)
		}
	}
	asks := map[string]string{
		"X-Amz-Storage-Class": "STANDARD_IA", "X-Amz-Server-Side-Encryption": "aws:kms",
		"X-Amz-Server-Side-Encryption-Aws-Kms-Key-Id": "alias/backups",
	}
	for _, request := range []string{"put", "create"} {
		for name, want := range asks {
			if got := seen[request].Get(name); got != want {
				t.Errorf("%s: %s is %q", request, name, got)
			}
		}
	}
	for _, request := range []string{"put", "complete"} {
		if got := seen[request].Get("If-None-Match"); got != "*" {
			t.Errorf("%s: If-None-Match is %q", request, got)
		}
	}
}
