package apkbuild

import (
	"archive/tar"
	"bytes"
	"fmt"
	"time"

	"github.com/klauspost/compress/gzip"
)

// epoch is the default time of members.
var epoch = time.Unix(0, 0)

// A member is one file of a signature, control or index stream.
type member struct {
	name string
	mode int64
	data []byte
}

// tarEnd selects whether a stream's tar ends with two zero blocks. All streams of a file except the
// last are cut, so that together they form one tar.
type tarEnd bool

const (
	cut      tarEnd = false
	complete tarEnd = true
)

// memberStream returns a gzip stream of the members.
func memberStream(members []member, modTime time.Time, end tarEnd) ([]byte, error) {
	return gzipTar(end, func(tw *tar.Writer) error {
		for _, m := range members {
			err := tw.WriteHeader(&tar.Header{
				Typeflag: tar.TypeReg, Name: m.name, Mode: m.mode, Size: int64(len(m.data)),
				Uname: "root", Gname: "root", ModTime: modTime, Format: tar.FormatPAX,
			})
			if err != nil {
				return fmt.Errorf("write %s: %w", m.name, err)
			}
			if _, err := tw.Write(m.data); err != nil {
				return fmt.Errorf("write %s: %w", m.name, err)
			}
		}
		return nil
	})
}

// gzipTar compresses the tar that fill writes. The gzip header has neither name nor time, so that
// equal tars result in equal bytes.
func gzipTar(end tarEnd, fill func(*tar.Writer) error) ([]byte, error) {
	var buf bytes.Buffer
	zw := gzip.NewWriter(&buf)
	zw.ModTime = epoch // the zero Time is written as a date in 2042
	tw := tar.NewWriter(zw)
	if err := fill(tw); err != nil {
		return nil, err
	}
	finish := tw.Flush
	if end == complete {
		finish = tw.Close
	}
	if err := finish(); err != nil {
		return nil, fmt.Errorf("finish tar: %w", err)
	}
	if err := zw.Close(); err != nil {
		return nil, fmt.Errorf("finish gzip stream: %w", err)
	}
	return buf.Bytes(), nil
}
