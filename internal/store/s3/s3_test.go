package s3_test

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"runtime/pprof"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"time"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/store"
	"github.com/pgmedic/pgmedic/internal/store/s3"
	"github.com/pgmedic/pgmedic/internal/store/s3test"
	"github.com/pgmedic/pgmedic/internal/store/storetest"
)

// newS3 returns the store of a new bucket, changed by the functions.
func newS3(t *testing.T, server *s3test.Server, change ...func(*s3.Options)) *s3.Store {
	t.Helper()
	return openS3(t, server, server.Bucket(), change...)
}

func openS3(t *testing.T, server *s3test.Server, bucket string, change ...func(*s3.Options)) *s3.Store {
	t.Helper()
	o := server.Options(bucket)
	o.PartSizeBytes, o.MaxAttempts = s3.MinPartSizeBytes, 3
	for _, f := range change {
		f(&o)
	}
	s, err := s3.New(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func startS3(t *testing.T, o s3test.Options) *s3test.Server {
	t.Helper()
	server := s3test.Start(t, o)
	server.Setenv(t)
	return server
}

func TestS3Conforms(t *testing.T) {
	server := startS3(t, s3test.Options{})
	storetest.Run(t, func(t *testing.T) store.Store { return newS3(t, server) })
}

// TestS3Prefixes keeps stores in one bucket apart.
func TestS3Prefixes(t *testing.T) {
	server := startS3(t, s3test.Options{})
	bucket := server.Bucket()
	under := func(prefix string) *s3.Store {
		return openS3(t, server, bucket, func(o *s3.Options) { o.Prefix = prefix })
	}
	whole, a, ab := openS3(t, server, bucket), under("a"), under("a/b")
	for s, key := range map[*s3.Store]string{whole: "z", a: "key", ab: "key"} {
		if _, err := s.Put(t.Context(), key, strings.NewReader(key)); err != nil {
			t.Fatal(err)
		}
	}
	for s, want := range map[*s3.Store][]string{whole: {"a/b/key", "a/key", "z"}, a: {"b/key", "key"}, ab: {"key"}} {
		var got []string
		for o, err := range s.List(t.Context(), "") {
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, o.Key)
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s has %q, want %q", s, got, want)
		}
	}
	if got := ab.String(); got != "s3://"+bucket+"/a/b at "+server.Endpoint {
		t.Errorf("String is %q", got)
	}
	// The prefix counts, and is not cut off silently.
	long := strings.Repeat(strings.Repeat("y", 255)+"/", 3) + strings.Repeat("y", 255)
	if _, err := under(strings.Repeat("p", 200)).Put(t.Context(), long+"y", nil); pgmedic.KindOf(err) != pgmedic.KindUsage {
		t.Errorf("key that is too long with its prefix: %v", err)
	}
	// Dots before a slash are stored otherwise.
	if _, err := a.Put(t.Context(), "x../y", strings.NewReader("dots")); err != nil {
		t.Fatal(err)
	}
	for o, err := range a.List(t.Context(), "x../") {
		if err != nil || o.Key != "x../y" {
			t.Errorf("%+v, %v", o, err)
		}
	}
	if o, err := a.Stat(t.Context(), "x../y"); err != nil || o.SizeBytes != 4 {
		t.Errorf("%+v, %v", o, err)
	}
}

func TestS3PartSizes(t *testing.T) {
	for _, size := range []int64{s3.MinPartSizeBytes, s3.DefaultPartSizeBytes, s3.MaxPartSizeBytes} {
		total, parts := int64(0), int64(0)
		for n := int64(1); s3.PartSize(s3.Options{PartSizeBytes: size}, n) > 0; n++ {
			parts, total = n, total+s3.PartSize(s3.Options{PartSizeBytes: size}, n)
			if part := s3.PartSize(s3.Options{PartSizeBytes: size}, n); part > 5<<30 {
				t.Fatalf("part %d has %d bytes", n, part)
			}
		}
		if parts != 10_000 || total != 137_000*size {
			t.Errorf("%d parts of %d and more are %d bytes", parts, size, total)
		}
		if size == s3.DefaultPartSizeBytes && total < 1<<40 {
			t.Errorf("the default allows %d bytes", total)
		}
	}
}

// TestS3Grows puts objects whose parts grow, up to the last and past it.
func TestS3Grows(t *testing.T) {
	s3.SetPartGrowth(t, 2, 1)
	server := startS3(t, s3test.Options{})
	s := newS3(t, server)
	const most = (2*1 + 1*2 + 1*4) * s3.MinPartSizeBytes
	for _, size := range []int{s3.MinPartSizeBytes, 2 * s3.MinPartSizeBytes, 2*s3.MinPartSizeBytes + 1, most} {
		key, data := "a/"+strconv.Itoa(size), noise(size)
		if o, err := s.Put(t.Context(), key, bytes.NewReader(data)); err != nil || o.SizeBytes != int64(size) {
			t.Fatalf("%d bytes: %+v, %v", size, o, err)
		}
		if got, err := readAll(t.Context(), s, key); err != nil || !bytes.Equal(got, data) {
			t.Errorf("%d bytes came back as %d, %v", size, len(got), err)
		}
	}
	_, err := s.Put(t.Context(), "b", bytes.NewReader(noise(most+1)))
	if pgmedic.KindOf(err) != pgmedic.KindFailed || !strings.Contains(pgmedic.HintOf(err), "part_size") {
		t.Errorf("an object that is too large: %v", err)
	}
}

// TestS3Memory puts and gets 1 GiB with four writers, as a parallel backup does,
// and looks at the heap meanwhile.
func TestS3Memory(t *testing.T) {
	server := startS3(t, s3test.Options{})
	s := newS3(t, server, func(o *s3.Options) { o.PartSizeBytes = 0 })
	const writers, size = 4, 128 << 20
	// What is held counts, not how late the garbage collector comes, which on a busy
	// machine is late.
	defer debug.SetGCPercent(debug.SetGCPercent(10))
	live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	// Until the collector has come, what it says is of the tests before.
	runtime.GC()
	stop, peak := make(chan struct{}), uint64(0)
	var watch, work sync.WaitGroup
	watch.Go(func() {
		for {
			metrics.Read(live)
			peak = max(peak, live[0].Value.Uint64())
			select {
			case <-stop:
				return
			case <-time.After(5 * time.Millisecond): // between two looks
			}
		}
	})
	var before runtime.MemStats
	runtime.ReadMemStats(&before)
	slots := make(chan struct{}, writers)
	for i := range 2 * writers {
		work.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			key := "a/" + strconv.Itoa(i)
			if _, err := s.Put(t.Context(), key, io.LimitReader(rand.NewChaCha8([32]byte{}), size)); err != nil {
				t.Error(err)
				return
			}
			r, err := s.Open(t.Context(), key, 0, -1)
			if err != nil {
				t.Error(err)
				return
			}
			defer r.Close()
			if n, err := io.Copy(io.Discard, r); n != size || err != nil {
				t.Errorf("%d bytes, %v", n, err)
			}
		})
	}
	work.Wait()
	close(stop)
	watch.Wait()
	// The collector counts as live all that is allocated while it marks, which on a busy
	// machine takes seconds. Puts that use buffers again allocate no more than may be held.
	var after runtime.MemStats
	runtime.ReadMemStats(&after)
	all := after.TotalAlloc - before.TotalAlloc
	t.Logf("peak heap %d MiB; allocated in all: %d MiB", peak>>20, all>>20)
	// The parts, and half as much for all else.
	if limit := uint64(3 * writers * (s3.DefaultConcurrency + 1) * s3.DefaultPartSizeBytes / 2); peak > limit && !raceDetector { // it keeps a shadow of the heap
		t.Errorf("the heap grew to %d MiB, more than %d; allocated in all: %d MiB\n%s", peak>>20, limit>>20, all>>20, heapProfile(t))
	}
}

// heapProfile is who allocated what, the largest first, as text.
func heapProfile(t *testing.T) string {
	t.Helper()
	var text strings.Builder
	if err := pprof.Lookup("allocs").WriteTo(&text, 1); err != nil {
		t.Error(err)
	}
	lines := strings.Split(text.String(), "\n")
	return strings.Join(lines[:min(len(lines), 100)], "\n")
}

// TestS3Buffers counts what Puts allocate, which unlike what is held depends neither on
// the garbage collector nor on the machine: one allocates as many parts as Options
// says that it holds, and those after it, however they end, use them again.
func TestS3Buffers(t *testing.T) {
	const part, parts = s3.MinPartSizeBytes, 5
	s := newS3(t, startS3(t, s3test.Options{}))
	died := errors.New("the dump died")
	data := func(size int) io.Reader { return io.LimitReader(rand.NewChaCha8([32]byte{}), int64(size)) }
	allocated := func(run func()) (parts float64) {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		run()
		runtime.ReadMemStats(&after)
		return float64(after.TotalAlloc-before.TotalAlloc) / part
	}
	put := func(key string, r io.Reader, want error) {
		if _, err := s.Put(t.Context(), key, r); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", key, err, want)
		}
	}
	first := allocated(func() { put("first", data(parts*part), nil) })
	t.Logf("the first Put allocates %.1f parts", first)
	if first >= s3.DefaultConcurrency+2 && !raceDetector {
		t.Errorf("a Put of %d parts allocates as much as %.1f of them; it holds at most %d", parts, first, s3.DefaultConcurrency+1)
	}
	// How many of these it has needed depends on how fast the server takes them. Puts that are
	// in the middle of their second part at the same time have one each, whatever it does.
	var there, done sync.WaitGroup
	there.Add(s3.DefaultConcurrency + 1)
	for i := range s3.DefaultConcurrency + 1 {
		done.Go(func() {
			arrive := sync.OnceFunc(there.Done)
			defer arrive()
			put("warm/"+strconv.Itoa(i), io.MultiReader(data(part+part/2), readerFunc(func([]byte) (int, error) {
				arrive()
				there.Wait()
				return 0, io.EOF
			}), data(part)), nil)
		})
	}
	done.Wait()
	for name, again := range map[string]func(i int){
		"of whole parts":             func(i int) { put("whole/"+strconv.Itoa(i), data(parts*part), nil) },
		"of a part and a byte":       func(i int) { put("more/"+strconv.Itoa(i), data(part+1), nil) },
		"of almost a part":           func(i int) { put("less/"+strconv.Itoa(i), data(part-1), nil) },
		"of an object that is there": func(int) { put("first", data(parts*part), store.ErrExists) },
		"whose reader fails at once": func(i int) { put("fails/"+strconv.Itoa(i), iotest.ErrReader(died), died) },
		"whose reader fails in the first part": func(i int) {
			put("fails/"+strconv.Itoa(i), io.MultiReader(data(part-1), iotest.ErrReader(died)), died)
		},
		"whose reader fails where a part ends": func(i int) {
			put("fails/"+strconv.Itoa(i), io.MultiReader(data(part), iotest.ErrReader(died)), died)
		},
	} {
		if more := allocated(func() {
			for i := range parts {
				again(i)
			}
		}); more >= 1 && !raceDetector {
			t.Errorf("%d more Puts %s allocate as much as %.1f parts, and use no buffer again", parts, name, more)
		} else {
			t.Logf("%d more Puts %s allocate %.2f parts", parts, name, more)
		}
	}
}

func TestS3Options(t *testing.T) {
	for name, o := range map[string]s3.Options{
		"no bucket":       {},
		"bucket and path": {Bucket: "b/c"},
		"empty parts":     {Bucket: "b", Prefix: "a//b"},
		"slash":           {Bucket: "b", Prefix: "a/"},
		"no scheme":       {Bucket: "b", Endpoint: "host:9000"},
		"credentials":     {Bucket: "b", Endpoint: "https://key:secret-one@host"},
		"encryption":      {Bucket: "b", ServerSideEncryption: "rot13"},
		"idle key":        {Bucket: "b", KMSKeyID: "k"},
		"small parts":     {Bucket: "b", PartSizeBytes: 1},
		"large parts":     {Bucket: "b", PartSizeBytes: 1 << 40},
		"concurrency":     {Bucket: "b", Concurrency: -1},
		"no authority":    {Bucket: "b", CACertFile: "/nonexistent"},
		"no region":       {Bucket: "b"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("AWS_REGION", "")
			t.Setenv("AWS_DEFAULT_REGION", "")
			t.Setenv("AWS_CONFIG_FILE", os.DevNull)
			s, err := s3.New(t.Context(), o)
			if s != nil || pgmedic.KindOf(err) != pgmedic.KindUsage || strings.Contains(err.Error(), "secret-one") {
				t.Errorf("%v (%v)", err, pgmedic.KindOf(err))
			}
		})
	}
}
