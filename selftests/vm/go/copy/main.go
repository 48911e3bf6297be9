// SPDX-License-Identifier: Apache-2.0

// Command gocopy is the Go program of the VM tests: io.Copy in every form in which the Go runtime
// hands it to the kernel. The server copies a connection to itself (splice), the client a file to
// the connection (sendfile) and the connection to a hash, both at the same time.
//
//	gocopy serve ADDRESS
//	gocopy copy ADDRESS SIZE DIRECTORY
package main

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"time"
)

const marker = "KMTLS-PLAINTEXT-MARKER"

func serve(address string) error {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	for {
		connection, err := listener.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer connection.Close()
			if _, err := io.Copy(connection, connection); err != nil {
				fmt.Fprintln(os.Stderr, "gocopy:", err)
			}
		}()
	}
}

// payload makes a file of size bytes and returns it, read from its start, and its digest.
func payload(directory string, size int64) (*os.File, string, error) {
	file, err := os.CreateTemp(directory, "gocopy")
	if err != nil {
		return nil, "", err
	}
	if err := os.Remove(file.Name()); err != nil {
		return nil, "", err
	}
	hash := sha256.New()
	out := io.MultiWriter(file, hash)
	for written := int64(0); written < size; {
		line := fmt.Sprintf("%s %d\n", marker, written)
		if rest := size - written; int64(len(line)) > rest {
			line = line[:rest]
		}
		n, err := io.WriteString(out, line)
		if err != nil {
			return nil, "", err
		}
		written += int64(n)
	}
	_, err = file.Seek(0, io.SeekStart)
	return file, hex.EncodeToString(hash.Sum(nil)), err
}

func copyBothWays(address, directory string, size int64) error {
	file, sent, err := payload(directory, size)
	if err != nil {
		return err
	}
	connection, err := net.DialTimeout("tcp", address, 30*time.Second)
	if err != nil {
		return err
	}
	failed := make(chan error, 1)
	go func() {
		_, err := io.Copy(connection, file)
		if err == nil {
			err = connection.(*net.TCPConn).CloseWrite()
		}
		failed <- err
	}()
	hash := sha256.New()
	received, err := io.Copy(hash, connection)
	if err != nil {
		return err
	}
	if err := <-failed; err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(map[string]any{
		"received":        received,
		"digest_sent":     sent,
		"digest_received": hex.EncodeToString(hash.Sum(nil)),
	})
}

func run(arguments []string) error {
	switch {
	case len(arguments) == 2 && arguments[0] == "serve":
		return serve(arguments[1])
	case len(arguments) == 4 && arguments[0] == "copy":
		size, err := strconv.ParseInt(arguments[2], 10, 64)
		if err != nil {
			return err
		}
		return copyBothWays(arguments[1], arguments[3], size)
	}
	return fmt.Errorf("usage: gocopy serve ADDRESS | gocopy copy ADDRESS SIZE DIRECTORY")
}

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "gocopy:", err)
		os.Exit(1)
	}
}
