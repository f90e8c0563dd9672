package replication

import (
	"context"
	"fmt"
	"strconv"
	"strings"
)

// Layout is how a cluster's files are made.
type Layout struct {
	// VersionNum is server_version_num, such as 150018.
	VersionNum int
	// BlockBytes is the size of pages, SegmentBytes that at which the files of a relation are
	// cut.
	BlockBytes, SegmentBytes int64
	// Checksums is true where every page has a checksum.
	Checksums bool
}

// Layout asks the server how its files are made.
func (c *Conn) Layout(ctx context.Context) (l Layout, err error) {
	const attempted = "ask the server how its files are made"
	var numbers [3]int64
	for i, setting := range []string{"server_version_num", "block_size", "segment_size"} {
		text, err := c.show(ctx, setting)
		if err != nil {
			return l, refused(err, attempted)
		}
		if numbers[i], err = parseBytes(text); err != nil {
			return l, unexpected(attempted)
		}
	}
	checksums, err := c.show(ctx, "data_checksums")
	if err != nil {
		return l, refused(err, attempted)
	}
	l = Layout{VersionNum: int(numbers[0]), BlockBytes: numbers[1], SegmentBytes: numbers[2], Checksums: checksums == "on"}
	if l.BlockBytes < 1<<10 || l.BlockBytes > 32<<10 || l.BlockBytes&(l.BlockBytes-1) != 0 || l.SegmentBytes < l.BlockBytes || l.SegmentBytes%l.BlockBytes != 0 {
		return l, unexpected(attempted)
	}
	return l, nil
}

// show returns a setting as SHOW prints it.
func (c *Conn) show(ctx context.Context, setting string) (string, error) {
	rows, err := c.query(ctx, "SHOW "+setting)
	if err != nil {
		return "", err
	}
	if len(rows) != 1 || len(rows[0]) != 1 {
		return "", unexpected("read the setting " + setting)
	}
	return rows[0][0], nil
}

// parseBytes reads a number of bytes as SHOW prints it, such as 8192 or 1GB.
func parseBytes(text string) (int64, error) {
	number, shift := text, 0
	for suffix, bits := range map[string]int{"kB": 10, "MB": 20, "GB": 30, "TB": 40} {
		if before, ok := strings.CutSuffix(text, suffix); ok {
			number, shift = before, bits
		}
	}
	n, err := strconv.ParseInt(number, 10, 31)
	return n << shift, err
}

// CreateTemporarySlot makes a slot that the server drops when this connection ends. It
// keeps WAL from the last checkpoint on, so that of a base backup that begins afterwards
// nothing is missing.
func (c *Conn) CreateTemporarySlot(ctx context.Context, name string) error {
	if err := CheckSlotName(name); err != nil {
		return err
	}
	_, err := c.query(ctx, fmt.Sprintf(`CREATE_REPLICATION_SLOT "%s" TEMPORARY PHYSICAL RESERVE_WAL`, name))
	return refused(err, "create temporary replication slot "+name)
}
