#include "buddy.hpp"

#include <algorithm>

namespace {
std::size_t order_of(std::uint64_t bytes) // the least order whose blocks hold them
{
    std::size_t order = 0;
    while (order < 57 && (Buddy::unit << order) < bytes)
        order++;
    return order;
}
} // namespace

Buddy::Buddy(std::uint64_t bytes)
{
    std::size_t order = order_of(bytes + 1);
    free_.resize(std::max<std::size_t>(order, 1));
    order_.assign(this->bytes() / unit, -1);
    free_.back().insert(0);
}

std::optional<std::uint64_t> Buddy::alloc(std::uint64_t size, std::uint64_t align)
{
    const std::size_t wanted = order_of(std::max(size, align));
    std::size_t order = wanted;
    while (order < free_.size() && free_[order].empty())
        order++;
    if (order >= free_.size())
        return std::nullopt;
    const std::uint64_t offset = *free_[order].begin();
    free_[order].erase(offset);
    while (order > wanted) { // the lower half is split on, the upper one stays free
        order--;
        free_[order].insert(offset + (unit << order));
    }
    order_[offset / unit] = static_cast<signed char>(wanted);
    return offset;
}

bool Buddy::free(std::uint64_t offset)
{
    if (offset >= bytes() || offset % unit != 0 || order_[offset / unit] < 0)
        return false;
    auto order = static_cast<std::size_t>(order_[offset / unit]);
    order_[offset / unit] = -1;
    while (order + 1 < free_.size() && free_[order].erase(offset ^ (unit << order)) != 0) {
        offset &= ~(unit << order);
        order++;
    }
    free_[order].insert(offset);
    return true;
}

std::uint64_t Buddy::usable(std::uint64_t offset) const { return unit << order_[offset / unit]; }
