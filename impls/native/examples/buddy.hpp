// A binary buddy over places: it hands out offsets and never touches what lies there, as for the memory of a device.
#pragma once

#include <cstdint>
#include <optional>
#include <set>
#include <vector>

class Buddy {
public:
    static constexpr std::uint64_t unit = 64; // the smallest block

    explicit Buddy(std::uint64_t bytes); // a power of two of units; anything else is rounded down to one

    std::optional<std::uint64_t> alloc(std::uint64_t size, std::uint64_t align = 1);
    bool free(std::uint64_t offset); // false: no object starts there
    std::uint64_t usable(std::uint64_t offset) const;

    std::uint64_t bytes() const { return unit << (free_.size() - 1); }
    const std::vector<std::set<std::uint64_t>> &free_blocks() const { return free_; } // by order

private:
    std::vector<std::set<std::uint64_t>> free_; // offsets of free blocks of unit << order bytes
    std::vector<signed char> order_;            // of the live block that starts at a unit; -1: none does
};
