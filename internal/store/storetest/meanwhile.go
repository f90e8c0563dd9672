package storetest

import "io"

// Meanwhile returns r as the source of an upload that is overtaken by something: do is called,
// once, when n bytes have been read.
func Meanwhile(r io.Reader, n int, do func()) io.Reader { return &meanwhile{r, n, do} }

type meanwhile struct {
	r    io.Reader
	left int
	do   func() // nil when it was called
}

func (m *meanwhile) Read(p []byte) (int, error) {
	n, err := m.r.Read(p)
	if m.left -= n; m.left <= 0 && m.do != nil {
		m.do()
		m.do = nil
	}
	return n, err
}
