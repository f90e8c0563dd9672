package pgdata

import (
	"fmt"
	"math"
)

// NoCut is the Layer.Cut of a relation that was not cut.
const NoCut uint32 = math.MaxUint32

// Layer is one version of a file: as one backup of a chain has it.
type Layer struct {
	// Whole is true where the backup has the whole file, of Length blocks. Otherwise Length
	// and Blocks are those of its Incremental.
	Whole  bool
	Length uint32
	Blocks []uint32
	// Cut is the block from which on the file was cut, at least once, between the backup before and this one,
	// counted from the beginning of the file; NoCut is none.
	Cut uint32
}

// Run is a run of blocks of a merged file.
type Run struct {
	// Layer is where they are from, or Zero for blocks whose bytes are all zero.
	Layer int
	// First is the number of the first one among those that the layer stores.
	First uint32
	// Count is how many there are.
	Count uint32
}

// Zero is the Run.Layer of blocks that are in no layer.
const Zero = -1

// Merge returns the blocks of a file, from its beginning to its end, as runs of those that
// its versions have. layers are from the newest to the first that is whole, which
// is the last. The merge is that of pg_combinebackup: a block is taken from the newest
// version that has it. Two rules differ, because PostgreSQL's own are wrong:
//
//   - From the block on from which a relation was cut between two backups, nothing is taken
//     from the older one, also where the file has grown again since. The pages that a bulk
//     extension adds and nothing has used yet are in no record of the WAL, so that the newer
//     backup does not have them. They are empty; PostgreSQL takes the older backup's, whose
//     deleted rows come back.
//   - A visibility map's blocks that the newest version does not have are zero: PostgreSQL
//     misses changes of them. Zero bits are always right: they only say that a page must be
//     read.
func Merge(layers []Layer, visibilityMap bool, sizes Sizes) ([]Run, error) {
	if err := sizes.check(); err != nil {
		return nil, err
	}
	if err := checkLayers(layers, sizes.blocks()); err != nil {
		return nil, err
	}
	m := merge{blocks: make([]origin, layers[0].length())}
	limit := uint32(math.MaxUint32) // of the newest, all is taken
	for i, l := range layers {
		m.take(i, l, limit)
		if visibilityMap {
			break
		}
		limit = min(limit, l.Length, l.Cut)
	}
	return m.runs(), nil
}

// checkLayers refuses what is not a chain of versions.
func checkLayers(layers []Layer, most int64) error {
	for i, l := range layers {
		if l.Whole != (i == len(layers)-1) || l.Whole && l.Blocks != nil || int64(l.length()) > most {
			return fmt.Errorf("version %d of %d is not one of a chain", i+1, len(layers))
		}
	}
	if len(layers) == 0 || len(layers) > math.MaxInt16 {
		return fmt.Errorf("%d versions are not a chain", len(layers))
	}
	return nil
}

// length is how many blocks the file has, as far as the layer knows.
func (l Layer) length() uint32 {
	if n := len(l.Blocks); n > 0 {
		return max(l.Length, l.Blocks[n-1]+1)
	}
	return l.Length
}

// origin is where a block is from: the number of the layer from 1 on, so that zero is none.
type origin struct {
	layer int16
	at    uint32
}

type merge struct{ blocks []origin }

// take takes from a layer what is missing, below a block.
func (m merge) take(i int, l Layer, limit uint32) {
	limit = min(limit, uint32(len(m.blocks)))
	if l.Whole {
		for b := range min(limit, l.Length) {
			m.put(b, origin{int16(i + 1), b})
		}
		return
	}
	for at, b := range l.Blocks {
		if b >= limit {
			return
		}
		m.put(b, origin{int16(i + 1), uint32(at)})
	}
}

func (m merge) put(b uint32, from origin) {
	if m.blocks[b].layer == 0 {
		m.blocks[b] = from
	}
}

// runs joins blocks that follow each other in a layer, too.
func (m merge) runs() (runs []Run) {
	for _, o := range m.blocks {
		layer := int(o.layer) - 1
		if n := len(runs) - 1; n >= 0 && runs[n].Layer == layer && (layer == Zero || runs[n].First+runs[n].Count == o.at) {
			runs[n].Count++
			continue
		}
		runs = append(runs, Run{layer, o.at, 1})
	}
	return runs
}

// CutOf returns what Layer.Cut is for a file, from the block from which on its relation was
// cut.
func CutOf(path string, block uint32, sizes Sizes) uint32 {
	first := int64(SegmentNumber(path)) * sizes.blocks()
	switch at := int64(block) - first; {
	case at < 0:
		return 0
	case at >= sizes.blocks():
		return NoCut
	default:
		return uint32(at)
	}
}
