package reread

import (
	"errors"
	"fmt"
	"io"
	"os"
)

// Read returns the content of a regular file of at most limit bytes. Its errors
// don't name the file.
func Read(path string, limit int64) ([]byte, error) {
	// Without blocking: a pipe waits for its writer.
	file, err := os.OpenFile(path, os.O_RDONLY|nonBlocking, 0)
	if err != nil {
		return nil, reason(err)
	}
	defer file.Close()
	// What was opened is judged, not what stood there before.
	info, err := file.Stat()
	if err != nil {
		return nil, reason(err)
	}
	if !info.Mode().IsRegular() {
		return nil, errors.New("not a regular file")
	}
	data, err := io.ReadAll(io.LimitReader(file, limit+1))
	if err != nil {
		return nil, reason(err)
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("more than %d bytes", limit)
	}
	return data, nil
}

// reason is err without the path, which its user puts in front once.
func reason(err error) error {
	if path, ok := errors.AsType[*os.PathError](err); ok {
		return path.Err
	}
	return err
}
