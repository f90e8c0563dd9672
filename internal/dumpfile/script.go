package dumpfile

import (
	"bytes"
	"context"
	"errors"
	"io"

	"github.com/pgmedic/pgmedic/internal/pgtool"
	"github.com/pgmedic/pgmedic/internal/pgtool/dumpsql"
)

// Script returns the dump as SQL, archives by way of pg_restore, which connects to no
// server. It can be called again, and gives the same. Its EOF says that every layer
// ended where it should, and that the file is the one that Checksum read. It is not
// filtered: dumpsql.NewScript and CheckStatement do that.
func (f *File) Script(ctx context.Context) (io.ReadCloser, error) {
	if f.folder != "" {
		p, err := pgtool.StartWholeScript(ctx, f.tool, f.folder, nil)
		if err != nil {
			return nil, err
		}
		return &script{f: f, r: &limited{f: f, r: &restored{f, ctx, p, nil}, left: f.maxBytes()}, close: []func() error{p.Close}}, nil
	}
	s, err := f.openStored()
	if err != nil {
		return nil, err
	}
	r, _, err := f.peel(&cancelled{ctx, s})
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	out := &script{f: f, stored: s, inner: pgtool.NewInput(io.NopCloser(r))}
	if f.Format == FormatTar {
		out.tail = &zeros{r: out.inner}
		out.inner = out.tail
	}
	if f.Format == FormatPlain || f.Format == FormatCluster {
		out.r, out.close = out.inner, []func() error{s.Close}
	} else {
		in := &dumpsql.Source{Reader: out.inner}
		p, err := pgtool.StartWholeScript(ctx, f.tool, "", in)
		if err != nil {
			return nil, errors.Join(err, s.Close())
		}
		out.r, out.close = &restored{f, ctx, p, in}, []func() error{p.Close, s.Close}
	}
	out.r = &limited{f: f, r: out.r, left: f.maxBytes()}
	return out, nil
}

// script is a dump being read as SQL.
type script struct {
	f      *File
	r      io.Reader
	stored *stored   // nil for a folder
	inner  io.Reader // of the layers
	tail   *zeros    // of a tar
	close  []func() error
	done   bool
}

// Read implements io.Reader.
func (s *script) Read(p []byte) (int, error) {
	if s.done {
		return 0, io.EOF
	}
	n, err := s.r.Read(p)
	if !errors.Is(err, io.EOF) || s.stored == nil {
		return n, err
	}
	// What a program has left unread belongs to the file, too.
	rest := &limited{f: s.f, r: s.inner, left: s.f.maxBytes()}
	if _, err := io.Copy(io.Discard, rest); err != nil {
		return n, err
	}
	if err := s.stored.rest(); err != nil {
		return n, err
	}
	if s.tail != nil && s.tail.n < endOfTar {
		return n, s.f.damaged("cut short: the tar does not end as one does")
	}
	s.done = true
	return n, io.EOF
}

// Close ends what still runs.
func (s *script) Close() error {
	var errs []error
	for _, c := range s.close {
		errs = append(errs, c())
	}
	return errors.Join(errs...)
}

// endOfTar is how many zeros a tar ends with. pg_restore stops before its last file.
const endOfTar = 2 * 512

// zeros counts the zeros at the end of what was read.
type zeros struct {
	r io.Reader
	n int
}

// Read implements io.Reader.
func (z *zeros) Read(p []byte) (int, error) {
	n, err := z.r.Read(p)
	rest := bytes.TrimRight(p[:n], "\x00")
	if len(rest) > 0 {
		z.n = 0
	}
	z.n += n - len(rest)
	return n, err
}

// limited ends what grows beyond what is allowed.
type limited struct {
	f    *File
	r    io.Reader
	left int64
}

// Read implements io.Reader.
func (l *limited) Read(p []byte) (int, error) {
	n, err := l.r.Read(p)
	if l.left -= int64(n); l.left < 0 {
		return 0, l.f.tooLarge()
	}
	return n, err
}

// restored is what pg_restore writes.
type restored struct {
	f   *File
	ctx context.Context // the one that the program runs under
	p   *pgtool.Process
	in  *dumpsql.Source // nil where the program reads files itself
}

// Read implements io.Reader. Where the file could not be read that is the error, and
// not what pg_restore says of it.
func (r *restored) Read(p []byte) (int, error) {
	n, err := r.p.Read(p)
	if err == nil || errors.Is(err, io.EOF) {
		return n, err
	}
	if r.in != nil && r.in.Failure() != nil {
		return n, r.in.Failure()
	}
	var failed *pgtool.Error
	if r.ctx.Err() == nil && errors.As(err, &failed) {
		if newest, known := formatOf(r.f.tool.Major); known && r.f.minor > newest {
			return n, r.f.tooNew("and pg_restore %s reads up to 1.%d", r.f.tool.Version, newest)
		}
		err = r.f.damaged("damaged or cut short: pg_restore can't read it to its end: %w", failed)
	}
	return n, err
}
