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
	// Opening a pipe would block until it has a writer.
	file, err := os.OpenFile(path, os.O_RDONLY|nonBlocking, 0)
	if err != nil {
		return nil, reason(err)
	}
	defer file.Close()
	// This checks the file that was opened, even if the path names another by now.
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

// reason is err without the path. The caller adds the path, once.
func reason(err error) error {
	if path, ok := errors.AsType[*os.PathError](err); ok {
		return path.Err
	}
	return err
}
