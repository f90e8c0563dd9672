package walspool

import (
	"bufio"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"os"

	"github.com/pgmedic/pgmedic/internal/wal"
)

// A file has the WAL of one segment from its start on, as far as it goes: a header, and
// frames that follow each other without a gap. Numbers are big-endian, and sums are CRC-32C.
//
//	header: magic, timeline (4 bytes), size of segments (4), system identifier (8), start (8), sum (4)
//	frame:  length (4), position (8), up to where WAL was flushed when it was written (8), sum of these and of the WAL (4), WAL
const (
	magic       = "pgmedWS1"
	headerBytes = len(magic) + 28
	frameBytes  = 24
	// maxFrame bounds the WAL of a frame: a server sends up to 128 KiB at once.
	maxFrame = 1 << 20
	suffix   = ".wal"
)

func sum(parts ...[]byte) (crc uint32) {
	table := crc32.MakeTable(crc32.Castagnoli)
	for _, b := range parts {
		crc = crc32.Update(crc, table, b)
	}
	return crc
}

// header is how the file of a segment begins.
func header(c Cluster, of wal.Segment) []byte {
	be := binary.BigEndian
	b := be.AppendUint32([]byte(magic), uint32(of.Timeline))
	b = be.AppendUint32(b, uint32(c.SegmentBytes))
	b = be.AppendUint64(b, c.SystemIdentifier)
	b = be.AppendUint64(b, uint64(of.Start))
	return be.AppendUint32(b, sum(b))
}

// frame is what stands before WAL.
func frame(from, flushed wal.LSN, data []byte) []byte {
	be := binary.BigEndian
	b := be.AppendUint32(make([]byte, 0, frameBytes), uint32(len(data)))
	b = be.AppendUint64(b, uint64(from))
	b = be.AppendUint64(b, uint64(flushed))
	return be.AppendUint32(b, sum(b, data))
}

// errTorn ends the frames of a file where what follows is not a whole frame.
var errTorn = errors.New("not a whole frame")

// frames reads the frames of a segment's file up to its end, and passes each on. It returns
// up to where the WAL goes, how long the file is up to there, and errTorn where more
// follows that is not a frame. Other errors are those of reading, and of each. The bytes are
// valid until each returns.
func frames(file *os.File, c Cluster, of wal.Segment, each func(from wal.LSN, data []byte) error) (end wal.LSN, length int64, err error) {
	r := bufio.NewReaderSize(file, 1<<18)
	be := binary.BigEndian
	read := make([]byte, headerBytes)
	end = of.Start
	if _, err := io.ReadFull(r, read); err != nil {
		return end, 0, torn(err)
	}
	if string(read) != string(header(c, of)) {
		return end, 0, errTorn
	}
	length = int64(headerBytes)
	var data []byte
	for {
		before := make([]byte, frameBytes)
		switch _, err := io.ReadFull(r, before); {
		case errors.Is(err, io.EOF):
			return end, length, nil
		case err != nil:
			return end, length, torn(err)
		}
		n := be.Uint32(before)
		if n == 0 || n > maxFrame || wal.LSN(be.Uint64(before[4:])) != end || end+wal.LSN(n) > of.Start+wal.LSN(c.SegmentBytes) {
			return end, length, errTorn
		}
		if cap(data) < int(n) {
			data = make([]byte, n)
		}
		data = data[:n]
		if _, err := io.ReadFull(r, data); err != nil {
			return end, length, torn(err)
		}
		if be.Uint32(before[frameBytes-4:]) != sum(before[:frameBytes-4], data) {
			return end, length, errTorn
		}
		if err := each(end, data); err != nil {
			return end, length, err
		}
		end += wal.LSN(n)
		length += frameBytes + int64(n)
	}
}

// flushedBeyond reports whether a frame behind an offset of a file says that WAL beyond end had
// been flushed when it was written. Then what is not a frame there was one: a crash leaves only
// what was not flushed without an end.
func flushedBeyond(file *os.File, c Cluster, of wal.Segment, offset int64, end wal.LSN) (bool, error) {
	be := binary.BigEndian
	window, data := make([]byte, maxFrame), make([]byte, maxFrame)
	for ; ; offset += int64(len(window) - frameBytes + 1) {
		n, err := file.ReadAt(window, offset)
		if err != nil && !errors.Is(err, io.EOF) {
			return false, err
		}
		for at := 0; at+frameBytes <= n; at++ {
			before := window[at : at+frameBytes]
			length, from, flushed := be.Uint32(before), wal.LSN(be.Uint64(before[4:])), wal.LSN(be.Uint64(before[12:]))
			if length == 0 || length > maxFrame || flushed <= end || from < flushed || from+wal.LSN(length) > of.Start+wal.LSN(c.SegmentBytes) {
				continue
			}
			switch _, err := file.ReadAt(data[:length], offset+int64(at)+frameBytes); {
			case errors.Is(err, io.EOF): // it ends before the frame would
			case err != nil:
				return false, err
			case be.Uint32(before[frameBytes-4:]) == sum(before[:frameBytes-4], data[:length]):
				return true, nil
			}
		}
		if n < len(window) {
			return false, nil
		}
	}
}

func torn(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errTorn
	}
	return err
}
